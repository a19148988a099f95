"""What a spec can reach on a model: the smallest cut it can make, and the largest that respects its minimums."""

from collections.abc import Collection
from math import ceil

from api_schemas.enums import Balance, Granularity, Layout, Part, Scope, Side, TargetKind
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.pruning import SHARE_OF, Pruning
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape

OF_ALL_HEADS = (Granularity.SAME_CHANNEL, Granularity.PER_HEAD)
"""Granularities whose structures are of all heads of a layer at once."""
WITH_HEADS = (Granularity.HEAD_AND_CHANNEL, Granularity.HEAD_AND_WIDTH)
"""Granularities that remove channels, and whole heads beside."""


def channels_together(layer: LayerWidths, pruning: Pruning) -> bool:
    """Whether channels leave all heads of a layer at once. `head_and_width` keeps heads alike that are alike."""
    return pruning.granularity in OF_ALL_HEADS or (pruning.granularity is Granularity.HEAD_AND_WIDTH and layer.uniform)


def least_heads(pruning: Pruning) -> int:
    """Heads that stay in a layer. A stock layout has no way to say that a layer has none."""
    return max(pruning.min_heads, 1) if pruning.layout is Layout.STOCK else pruning.min_heads


def channels_a_block(pruning: Pruning, layer: LayerWidths | None = None, side: str = "") -> int:
    """Channels of one head and side (`qk`, `vo`) that leave together: `align`; of q and k that are rotated, a pair at least."""
    return max(pruning.multiple, layer.qk_unit if layer is not None and side == "qk" else 1)


def least_blocks(pruning: Pruning, layer: LayerWidths | None = None, side: str = "") -> int:
    """Blocks of these that stay in a surviving head: enough for `min_channels`."""
    return ceil(pruning.min_channels / channels_a_block(pruning, layer, side))


def least_channels(pruning: Pruning, layer: LayerWidths | None = None, side: str = "") -> int:
    """The same in channels."""
    return least_blocks(pruning, layer, side) * channels_a_block(pruning, layer, side)


def left_out(shape: ModelShape, pruning: Pruning) -> frozenset[int]:
    """Numbers of the layers that stay as they are: those in `exclude_layers`, and without `only` no others."""
    others = frozenset[int]()
    if pruning.only is not None:
        others = shape.layers_of(Side.DECODER if pruning.only is Side.ENCODER else Side.ENCODER)
    return others | set(pruning.exclude_layers)


def included_blocks(shape: ModelShape, pruning: Pruning) -> tuple[int, ...]:
    """Numbers of the attentions that may be cut: of those whose layer is not left out, and that have heads."""
    stay, pairs = left_out(shape, pruning), zip(shape.attention, shape.dense.layers, strict=True)
    return tuple(n for n, (block, layer) in enumerate(pairs) if block.layer not in stay and layer.heads)


def included_neurons(shape: ModelShape, pruning: Pruning) -> tuple[int, ...]:
    """Numbers of the feed-forward blocks that may be cut."""
    stay = left_out(shape, pruning)
    return tuple(n for n, block in enumerate(shape.feed_forward) if block.layer not in stay)


def least_neurons(pruning: Pruning) -> int:
    """Neurons that stay in a feed-forward block: `min_neurons`, rounded up to `align`."""
    return ceil(pruning.min_neurons / pruning.multiple) * pruning.multiple


def smallest_widths(
    widths: AttentionWidths,
    granularity: Granularity,
    min_heads: int,
    min_channels: int,
    exclude: Collection[int] = (),
) -> AttentionWidths:
    """The widths left when a granularity has removed all it may. `exclude`: numbers of attentions that stay."""

    def of_layer(layer: LayerWidths) -> tuple[list[int], list[int]]:
        qk, vo = list(layer.qk), list(layer.vo)
        if granularity in (Granularity.ENTIRE_HEAD, *WITH_HEADS):
            # Of heads that differ in width the widest: which of them stay scores say, and so much can go whatever they say.
            widest = sorted(zip(qk, vo, strict=True), key=sum, reverse=True)[:min_heads]
            qk, vo = [pair[0] for pair in widest], [pair[1] for pair in widest]
        if granularity is not Granularity.ENTIRE_HEAD:
            least_qk = ceil(min_channels / layer.qk_unit) * layer.qk_unit
            qk, vo = [min(width, least_qk) for width in qk], [min(width, min_channels) for width in vo]
        return qk, vo

    return AttentionWidths.of(
        widths.head_dim,
        ((layer.qk, layer.vo) if number in exclude else of_layer(layer) for number, layer in enumerate(widths.layers)),
        widths.feed_forward,
    )


def narrowest(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> AttentionWidths:
    """The widths left when a spec has removed all it may."""
    if Part.ATTENTION in pruning.cuts:
        stay = set(range(len(widths.layers))) - set(included_blocks(shape, pruning))
        smallest = smallest_widths(widths, pruning.granularity, least_heads(pruning), least_channels(pruning), stay)
    else:
        smallest = widths
    if Part.FEED_FORWARD not in pruning.cuts:
        return smallest
    included, least = included_neurons(shape, pruning), least_neurons(pruning)
    neurons = tuple(min(n, least) if number in included else n for number, n in enumerate(widths.feed_forward))
    return smallest.model_copy(update={"feed_forward": neurons})


def max_sparsity(
    shape: ModelShape, widths: AttentionWidths, granularity: Granularity, min_heads: int = 1, min_channels: int = 1
) -> float:
    """The largest attention sparsity that `granularity` can reach from `widths`."""
    return accounting.attention_sparsity(shape, smallest_widths(widths, granularity, min_heads, min_channels))


def max_share(shape: ModelShape, widths: AttentionWidths, pruning: Pruning, kind: TargetKind | None = None) -> float:
    """The largest share, of the target's kind or another, that the spec can reach. ValueError for latency, which is measured."""
    return CostUnit.of(shape, kind or pruning.target.kind).share(narrowest(shape, widths, pruning))


def smallest_cut(shape: ModelShape, widths: AttentionWidths, pruning: Pruning, kind: TargetKind) -> float:
    """The smallest cut the spec allows, as a share in the unit of `kind`.

    One structure, or one a ranking where all have to move: a layer each with a local scope, a side each with equal balance.
    """
    unit = CostUnit.of(shape, kind)
    ones: list[int] = []
    if Part.ATTENTION in unit.counts & pruning.cuts:
        included = included_blocks(shape, pruning)
        ones += [_smallest_of(unit, number, widths.layers[number], pruning) for number in included]
    if Part.FEED_FORWARD in unit.counts & pruning.cuts:
        ones += [unit.neuron[number] * pruning.multiple for number in included_neurons(shape, pruning)]
    everywhere = pruning.scope is Scope.LOCAL or pruning.layout is Layout.STOCK
    return (sum(ones) if everywhere else min(ones)) / unit.total


def _smallest_of(unit: CostUnit, number: int, layer: LayerWidths, pruning: Pruning) -> int:
    """The same of one attention alone, in the unit."""
    qk, vo = unit.qk[number], unit.vo[number]
    both = Layout.STOCK is pruning.layout or Balance.EQUAL is pruning.balance
    blocks = [channels_a_block(pruning, layer, "qk") * qk, channels_a_block(pruning, layer, "vo") * vo]
    if layer.qk_whole:
        del blocks[0]
    channel = sum(blocks) if both else max(blocks)
    narrows = any(max(own) > least_channels(pruning, layer, side) for side, own in (("qk", layer.qk), ("vo", layer.vo)))
    head = min(width * qk + other * vo for width, other in zip(layer.qk, layer.vo, strict=True))
    match pruning.granularity:
        case Granularity.ENTIRE_HEAD:
            return head
        case Granularity.SAME_CHANNEL | Granularity.PER_HEAD:
            return channel * layer.heads
        case Granularity.RAGGED:
            return channel
        case Granularity.HEAD_AND_CHANNEL:
            return channel if narrows else head
        case Granularity.HEAD_AND_WIDTH:
            may_go = [head] if layer.heads > least_heads(pruning) else []
            if narrows:
                may_go.append(channel * (layer.heads if channels_together(layer, pruning) else 1))
            return min(may_go, default=head)


def check_feasible(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> None:
    """Refuse a spec that cannot be met on this model, before anything is queued.

    Raises INVALID_REQUEST (a layer or a side that is not there, or none left to cut; heads that differ in width, or a layout that
    cannot say so; more heads, channels or neurons that are to stay than there are), WIDTH_MISALIGNED (head widths that are no
    multiple of `align`) and SPARSITY_OUT_OF_REACH, naming the maximum or the smallest cut in the target's unit.

    A target is met to the nearest structure, so one below half of the smallest cut would remove nothing. The output bias is
    never removed but counts in the denominator of attention sparsity, so five heads of six are 83.2%, not 83.3%. That target
    is compared without this rounding: asking for 5/6 is met within one structure and is accepted. Where all may go there is
    no such share below 1 to be rounded, and what is asked for is within a structure of what can go, or refused.

    A bound on the drop can be met wherever anything can go. What a latency target can reach is known when the worker has
    measured. Refused here is only what would not be reached without what may be cut: more than its share of the FLOPs.
    """
    _check_layers(shape, pruning)
    _check_pruned(shape, pruning)
    _check_sides(shape, pruning)
    _check_alignment(widths, pruning)
    for kind, target in pruning.target.goals:
        if kind is TargetKind.LATENCY:
            _check_latency(shape, widths, pruning)
        else:
            _check_goal(shape, widths, pruning, kind, target)
    _check_least(shape, widths, pruning)
    if pruning.target.max_drop is not None:
        _check_bound(shape, widths, pruning)


def _check_bound(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> None:
    """A bound on the drop is searched for up to what can be reached: something has to be able to go."""
    kind = pruning.target.kind
    if kind is TargetKind.LATENCY:
        _check_alike(shape, widths, pruning, "/pruning/target/of")
    counted = TargetKind.FLOPS if kind is TargetKind.LATENCY else kind
    if max_share(shape, widths, pruning, counted) < smallest_cut(shape, widths, pruning, counted) / 2:
        raise infeasible(
            "max_drop",
            "nothing can be removed",
            f"{pruning.granularity.value} cannot remove any of this model's {SHARE_OF[kind]} within what must stay "
            "(min_heads, min_channels, min_neurons, exclude_layers, only), whatever the allowed drop.",
        )


def reach(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> tuple[float, float]:
    """Between which shares of its one kind a spec can be asked for: the smallest that removes anything, and the most that can go.

    Of a latency, which only the worker measures: from 0, up to what `check_feasible` takes for possible. Raises as
    `check_feasible` does where the spec can cut nothing of this model, whatever the share.
    """
    _check_layers(shape, pruning)
    _check_pruned(shape, pruning)
    _check_sides(shape, pruning)
    _check_alignment(widths, pruning)
    kind = pruning.target.kind
    if kind is TargetKind.LATENCY:
        _check_alike(shape, widths, pruning, "/pruning/target/latency")
        return 0.0, _flops_in_parts(shape, widths, pruning)
    return smallest_cut(shape, widths, pruning, kind) / 2, max_share(shape, widths, pruning, kind)


def _flops_in_parts(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> float:
    """Of all FLOPs those in what may be cut, as a share."""
    flops = {Part.ATTENTION: accounting.attention_flops, Part.FEED_FORWARD: accounting.feed_forward_flops}
    return sum(flops[part](shape, widths) for part in pruning.cuts) / accounting.total_flops(shape, widths)


def _check_latency(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> None:
    parts = [part for part in Part if part in pruning.cuts]
    most = _flops_in_parts(shape, widths, pruning)
    if pruning.target.share > most:
        named = {Part.ATTENTION: "attention", Part.FEED_FORWARD: "feed-forward blocks"}
        further = "" if len(parts) > 1 else ' "parts": ["attention", "feed_forward"] allows more.'
        raise infeasible(
            TargetKind.LATENCY,
            f"maximum {most:.4f}",
            f"At most {most:.4f} of this model's FLOPs are in {' and '.join(named[part] for part in parts)}, and "
            f"nothing else is removed; the target latency is lower by {pruning.target.share:.4f}.{further}",
        )
    _check_alike(shape, widths, pruning, "/pruning/target/latency")


def _check_alike(shape: ModelShape, widths: AttentionWidths, pruning: Pruning, pointer: str) -> None:
    attentions = {block.model_copy(update={"layer": 0}) for block in shape.attention}
    uneven = len(attentions) > 1 or len({(layer.qk, layer.vo) for layer in widths.layers}) > 1 or not widths.stock_shape
    if Part.FEED_FORWARD in pruning.cuts:
        blocks = {block.model_copy(update={"layer": 0}) for block in shape.feed_forward}
        uneven = uneven or len(blocks) > 1 or len(set(widths.feed_forward)) > 1
    if uneven:
        detail = (
            "A latency target is computed from a table by layer, but this model's layers are not all alike; use "
            "flops instead."
        )
        item = ErrorItem(pointer=pointer, code=ErrorCode.INVALID_REQUEST, detail=detail)
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))


def _check_goal(shape: ModelShape, widths: AttentionWidths, pruning: Pruning, kind: TargetKind, target: float) -> None:
    most = nominal = max_share(shape, widths, pruning, kind)
    whole = CostUnit.of(shape, kind)
    if kind is TargetKind.ATTENTION_SPARSITY:
        nominal = most * whole.total / whole.original(range(len(shape.attention)))
    if kind is TargetKind.FFN_SPARSITY:
        nominal = most * whole.total / whole.original(range(len(shape.feed_forward)), "neuron")
    least = smallest_cut(shape, widths, pruning, kind)
    everything = nominal > 1 - 1e-9
    if target > (most + least if everything else nominal) + 1e-9:
        stays = []
        if Part.ATTENTION in whole.counts & pruning.cuts:
            stays += [f"min_heads={least_heads(pruning)}", f"min_channels={least_channels(pruning)}"]
        if Part.FEED_FORWARD in whole.counts & pruning.cuts:
            stays += [f"min_neurons={least_neurons(pruning)}"]
        count = len(left_out(shape, pruning))
        excluded = f", {count} layers left out" if count else ""
        further = ""
        if kind in (TargetKind.PARAMETERS, TargetKind.FLOPS) and Part.FEED_FORWARD not in pruning.cuts:
            further = ' "parts": ["attention", "feed_forward"] allows more.'
        whole_qk = any(block.qk_whole for block in shape.attention) and Part.ATTENTION in pruning.cuts
        if whole_qk and pruning.granularity is not Granularity.ENTIRE_HEAD:
            further = (
                f" QK channels are removed only with their head: its norms or positions need all of them.{further}"
            )
        if everything and kind is TargetKind.ATTENTION_SPARSITY:
            further = " Output biases stay even when all heads are removed."
        raise infeasible(
            kind,
            f"maximum {most:.4f}",
            f"{pruning.granularity.value} can remove at most {most:.4f} of this model's {SHARE_OF[kind]} with "
            f"{', '.join(stays)}{excluded}; the target is {target:.4f}.{further}",
        )
    if round(target / least) < 1:
        raise infeasible(
            kind,
            f"smallest cut {least:.4g}",
            f"With {pruning.granularity.value}, {pruning.scope.value} scope, {pruning.balance.value} balance and "
            f"layout {pruning.layout.value} the smallest possible cut removes {least:.4g} of this model's "
            f"{SHARE_OF[kind]}; the target {target:.4g} is closer to removing nothing.",
        )


def _check_layers(shape: ModelShape, pruning: Pruning) -> None:
    if pruning.only is not None and not shape.layers_of(pruning.only):
        said = (
            "Of this model only the encoder is pruned"
            if shape.copied_parameters
            else "This model has no encoder beside a decoder"
        )
        detail = f"{said}; leave only out, instead of asking for its {pruning.only.value}."
        item = ErrorItem(pointer="/pruning/only", code=ErrorCode.INVALID_REQUEST, detail=detail)
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))
    stay = left_out(shape, pruning)
    beyond = sorted(number for number in set(pruning.exclude_layers) if number >= shape.layers)
    if beyond:
        detail = (
            f"The model has layers 0 to {shape.layers - 1}; exclude_layers names layer {', '.join(map(str, beyond))}, "
            "which it does not have."
        )
    elif all(number in stay for number in range(shape.layers)):
        whole = f"all {shape.layers} layers" if pruning.only is None else f"every layer of the {pruning.only.value}"
        detail = f"exclude_layers names {whole}; nothing can be removed."
    elif Part.ATTENTION in pruning.cuts and not included_blocks(shape, pruning):
        detail = "The layers that may be cut have no attention left. Use only the part feed_forward to remove more."
        item = ErrorItem(pointer="/pruning/parts", code=ErrorCode.INVALID_REQUEST, detail=detail)
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))
    else:
        return
    item = ErrorItem(pointer="/pruning/exclude_layers", code=ErrorCode.INVALID_REQUEST, detail=detail)
    raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))


def _check_pruned(shape: ModelShape, pruning: Pruning) -> None:
    """What a spec supposes of a model that was pruned before, and an earlier job may have left otherwise."""
    if shape.pruned is None:
        return
    # Those that are left out as well: what cutting each layer alone costs is looked at.
    uneven = [n for n, layer in enumerate(shape.pruned.layers) if not layer.uniform]
    if pruning.layout is Layout.STOCK:
        field = "layout"
        detail = (
            "This model was already pruned to widths that the stock layout cannot express, and a further cut "
            "does not change that."
        )
    elif Part.ATTENTION in pruning.cuts and uneven and pruning.granularity in OF_ALL_HEADS:
        field = "granularity"
        detail = (
            f"{pruning.granularity.value} requires heads of equal width, but those of attention {uneven[0]} differ "
            "because this model was already pruned. Use ragged, entire_head, head_and_channel or head_and_width."
        )
    else:
        return
    item = ErrorItem(pointer=f"/pruning/{field}", code=ErrorCode.INVALID_REQUEST, detail=detail)
    raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))


def _check_sides(shape: ModelShape, pruning: Pruning) -> None:
    """A spec that gives QK a share of its own supposes that QK channels can go without their head."""
    whole = [number for number in included_blocks(shape, pruning) if shape.attention[number].qk_whole]
    apart = pruning.balance is Balance.EQUAL and pruning.granularity is not Granularity.ENTIRE_HEAD
    if whole and apart and Part.ATTENTION in pruning.cuts:
        detail = (
            "The norms or the positions of this model's queries and keys need all channels of a head, so QK channels are "
            "removed only with their head and cannot have a share of their own. Use balance joint, which removes VO channels "
            "and whole heads, or granularity entire_head."
        )
        item = ErrorItem(pointer="/pruning/balance", code=ErrorCode.INVALID_REQUEST, detail=detail)
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))


def _check_alignment(widths: AttentionWidths, pruning: Pruning) -> None:
    found: list[tuple[str, int]] = []
    if Part.ATTENTION in pruning.cuts and pruning.granularity is not Granularity.ENTIRE_HEAD:
        found += [("A head of width", width) for layer in widths.layers for width in (*layer.qk, *layer.vo)]
    if Part.FEED_FORWARD in pruning.cuts:
        found += [("A feed-forward block of width", neurons) for neurons in widths.feed_forward]
    wrong = sorted({(width, what) for what, width in found if width % pruning.multiple})
    if wrong:
        width, what = wrong[0]
        detail = f"{what} {width} cannot be cut in blocks of {pruning.multiple}; use a smaller align."
        item = ErrorItem(pointer="/pruning/align", code=ErrorCode.WIDTH_MISALIGNED, detail=f"width {width}")
        raise SecateurError(ErrorCode.WIDTH_MISALIGNED, detail, (item,))


def _check_least(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> None:
    """What has to stay is there: a spec with more heads than any layer has was written for another model."""
    layers = [widths.layers[number] for number in included_blocks(shape, pruning)]
    found: list[tuple[str, int, int, str]] = []
    if Part.ATTENTION in pruning.cuts:
        heads = max(layer.heads for layer in layers)
        channels = max((width for layer in layers for width in (*layer.qk, *layer.vo)), default=0)
        found.append(("min_heads", pruning.min_heads, heads, "heads in every layer"))
        found.append(("min_channels", pruning.min_channels, channels, "channels in every head"))
    if Part.FEED_FORWARD in pruning.cuts:
        neurons = max((widths.feed_forward[number] for number in included_neurons(shape, pruning)), default=0)
        found.append(("min_neurons", pruning.min_neurons, neurons, "neurons in every feed-forward block"))
    for field, asked, most, what in found:
        if asked > most:
            detail = f"{asked} {what} must stay, but the model has at most {most}; use a smaller {field}."
            item = ErrorItem(pointer=f"/pruning/{field}", code=ErrorCode.INVALID_REQUEST, detail=f"at most {most}")
            raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))


def infeasible(field: str, limit: str, detail: str) -> SecateurError:
    """SPARSITY_OUT_OF_REACH, pointing at a field of the target. `limit` is the number in a few words."""
    code = ErrorCode.SPARSITY_OUT_OF_REACH
    return SecateurError(code, detail, (ErrorItem(pointer=f"/pruning/target/{field}", code=code, detail=limit),))
