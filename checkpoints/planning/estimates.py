"""What a cut is expected to leave before anything is scored: the widths nearest to a share, taken evenly everywhere.

Only scores can say which structures are removed. The share, the granularity and the minimums already say how many. Taken in equal
parts from all that compete, they give parameters, FLOPs and bytes close to those of the real selection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api_schemas.enums import Balance, Granularity, Layout, Part, Scope, TargetKind
from api_schemas.results.estimate import EstimatedStep
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import (
    WITH_HEADS,
    channels_a_block,
    channels_together,
    included_blocks,
    included_neurons,
    least_blocks,
    least_channels,
    least_heads,
    least_neurons,
)
from checkpoints.planning.schedule import share_of_neurons, step_targets
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import SIDES, CostUnit
from checkpoints.sizes.shape import ModelShape

Key = tuple[int, str]
"""Number of an attention, or of a feed-forward block, and the side."""


@dataclass(frozen=True)
class _Group:
    """Structures that are all alike: how many may go, and what one costs in the unit of the target."""

    key: Key
    count: int
    cost: int

    @property
    def all(self) -> int:
        return self.count * self.cost


def estimate_widths(shape: ModelShape, pruning: Pruning, share: float) -> AttentionWidths:
    """The widths once `share` of the original is gone, in the target's unit. For latency, of its FLOPs."""
    kind = pruning.target.kind
    counted = TargetKind.FLOPS if kind is TargetKind.LATENCY else kind
    unit = CostUnit.of(shape, counted)
    gone: dict[Key, int] = {}
    if pruning.joint_parts:
        blocks = (*_attention(shape, pruning, unit), *_neurons(shape, pruning, unit))
        gone = _with_heads(shape, pruning, unit, blocks, {"": share * unit.total})
        return _widths(shape, pruning, gone)
    if Part.ATTENTION in pruning.cuts:
        gone |= _cut_attention(shape, pruning, unit, share)
    if Part.FEED_FORWARD in pruning.cuts:
        own = CostUnit.of(shape, TargetKind.FFN_SPARSITY) if pruning.target.ffn_sparsity is not None else unit
        gone |= _cut_neurons(shape, pruning, own, share_of_neurons(pruning, share))
    return _widths(shape, pruning, gone)


def _cut_attention(shape: ModelShape, pruning: Pruning, unit: CostUnit, share: float) -> dict[Key, int]:
    included = included_blocks(shape, pruning)
    whole = unit.original(included)
    groups = _attention(shape, pruning, unit)
    if pruning.layout is Layout.STOCK:
        return _equal(groups, share * unit.total)
    rankings = [(number,) for number in included] if pruning.scope is Scope.LOCAL else [included]
    apart = pruning.balance is Balance.EQUAL and pruning.granularity is not Granularity.ENTIRE_HEAD
    gone: dict[Key, int] = {}
    for numbers in rankings:
        sides = SIDES if apart else ("",)
        amounts = {side: share * unit.total * unit.original(numbers, side) / whole for side in sides}
        gone |= _with_heads(shape, pruning, unit, [group for group in groups if group.key[0] in numbers], amounts)
    return gone


def _cut_neurons(shape: ModelShape, pruning: Pruning, unit: CostUnit, share: float) -> dict[Key, int]:
    included = included_neurons(shape, pruning)
    whole = unit.original(included, "neuron")
    groups = _neurons(shape, pruning, unit)
    if pruning.layout is Layout.STOCK:
        return _equal(groups, share * unit.total)
    rankings = [(number,) for number in included] if pruning.scope is Scope.LOCAL else [included]
    gone: dict[Key, int] = {}
    for numbers in rankings:
        mine = [group for group in groups if group.key[0] in numbers]
        gone |= _spread(mine, share * unit.total * unit.original(numbers, "neuron") / whole)
    return gone


def _attention(shape: ModelShape, pruning: Pruning, unit: CostUnit) -> tuple[_Group, ...]:
    """What may go of the attentions: heads, or channels of either side."""
    groups: list[_Group] = []
    layers = shape.dense.layers
    for number in included_blocks(shape, pruning):
        layer = layers[number]
        costs = {side: unit.cost(number, side) for side in SIDES}
        if pruning.granularity is Granularity.ENTIRE_HEAD:
            count = max(0, layer.heads - least_heads(pruning))
            # Where heads differ in width, as one does on average.
            whole = layer.qk_total * costs["qk"] + layer.vo_total * costs["vo"]
            groups.append(_Group((number, "head"), count, whole // layer.heads))
            continue
        for side in SIDES:
            free = _free(layer, side, pruning)
            count, size = (min(free), layer.heads) if channels_together(layer, pruning) else (sum(free), 1)
            groups.append(_Group((number, side), count, costs[side] * size * channels_a_block(pruning, layer, side)))
    return tuple(groups)


def _free(layer: LayerWidths, side: str, pruning: Pruning) -> list[int]:
    """By head, the blocks of channels that may go."""
    block, stay = channels_a_block(pruning, layer, side), least_blocks(pruning, layer, side)
    return [max(0, width // block - stay) for width in (layer.qk if side == "qk" else layer.vo)]


def _neurons(shape: ModelShape, pruning: Pruning, unit: CostUnit) -> tuple[_Group, ...]:
    least, align, neurons = least_neurons(pruning), pruning.multiple, shape.dense.feed_forward
    return tuple(
        _Group((number, "neuron"), max(0, neurons[number] - least) // align, unit.neuron[number] * align)
        for number in included_neurons(shape, pruning)
    )


def _with_heads(
    shape: ModelShape, pruning: Pruning, unit: CostUnit, groups: Sequence[_Group], amounts: Mapping[str, float]
) -> dict[Key, int]:
    """As `_spread`, an amount for each side or of "", both. What channels cannot bear heads do, where these may go."""
    gone: dict[Key, int] = {}
    beyond = 0.0
    for side, amount in amounts.items():
        mine = [group for group in groups if side in ("", group.key[1])]
        gone |= _spread(mine, amount)
        beyond += max(0.0, amount - sum(group.all for group in mine))
    if pruning.granularity not in WITH_HEADS or beyond <= 0:
        return gone
    layers = shape.dense.layers
    heads = [
        _Group(
            (number, "head"),
            max(0, layers[number].heads - least_heads(pruning)),
            sum(least_channels(pruning, layers[number], side) * unit.cost(number, side) for side in SIDES),
        )
        for number in sorted({group.key[0] for group in groups if group.key[1] in SIDES})
    ]
    return gone | _spread(heads, beyond)


def _spread(groups: Sequence[_Group], amount: float) -> dict[Key, int]:
    """How many to take of each group: the same part of all, in whole structures, and in all nearest to `amount`."""
    everything = sum(group.all for group in groups)
    part = min(1.0, max(0.0, amount / everything)) if everything else 0.0
    # A hair more, so that a third of nine is three in binary too.
    taken = {group.key: int(part * group.count + 1e-9) for group in groups}
    left = amount - sum(taken[group.key] * group.cost for group in groups)
    for group in sorted(groups, key=lambda group: taken[group.key] - part * group.count):
        if taken[group.key] < group.count and abs(left - group.cost) < abs(left):
            taken[group.key] += 1
            left -= group.cost
    return taken


def _equal(groups: Sequence[_Group], amount: float) -> dict[Key, int]:
    """The same number of every group, in all nearest to `amount`: a stock layout."""
    most = min((group.count for group in groups), default=0)
    one = sum(group.cost for group in groups)
    count = min(most, max(0, round(amount / one))) if one else 0
    return {group.key: count for group in groups}


def _widths(shape: ModelShape, pruning: Pruning, gone: Mapping[Key, int]) -> AttentionWidths:
    layers: list[tuple[Iterable[int], Iterable[int]]] = []
    dense = shape.dense
    for number, layer in enumerate(dense.layers):
        heads = layer.heads - gone.get((number, "head"), 0)
        sides = [_of_heads(layer, side, gone.get((number, side), 0), pruning) for side in SIDES]
        layers.append((sides[0][:heads], sides[1][:heads]))
    neurons = tuple(
        before - gone.get((number, "neuron"), 0) * pruning.multiple for number, before in enumerate(dense.feed_forward)
    )
    return AttentionWidths.of(shape.attention[0].head_dim, layers, neurons)


def _of_heads(layer: LayerWidths, side: str, blocks: int, pruning: Pruning) -> list[int]:
    """Widths of the heads of one side without so many blocks: of each the same, as far as each has as many."""
    widths, size = layer.qk if side == "qk" else layer.vo, channels_a_block(pruning, layer, side)
    if channels_together(layer, pruning):
        return [width - blocks * size for width in widths]
    free, left = _free(layer, side, pruning), list(widths)
    for place, head in enumerate(sorted(range(len(widths)), key=free.__getitem__)):
        taken = min(free[head], -(-blocks // (len(widths) - place)))
        left[head] -= taken * size
        blocks -= taken
    return left


def estimated_steps(shape: ModelShape, pruning: Pruning, file_bytes: int) -> tuple[EstimatedStep, ...]:
    """The original and every step of the schedule. `file_bytes`: of the original's safetensors files, headers included."""
    targets = step_targets(shape, shape.dense, pruning)
    models = [(0.0, shape.dense), *((target, estimate_widths(shape, pruning, target)) for target in targets)]
    headers = max(0, file_bytes - accounting.weight_bytes(shape, shape.dense))
    return tuple(
        EstimatedStep(
            step=number,
            requested=target,
            attention_sparsity=accounting.attention_sparsity(shape, widths),
            ffn_sparsity=accounting.feed_forward_sparsity(shape, widths),
            attention_parameters=accounting.attention_parameters(shape, widths),
            feed_forward_parameters=accounting.feed_forward_parameters(shape, widths),
            total_parameters=accounting.total_parameters(shape, widths),
            flops=accounting.total_flops(shape, widths),
            weight_bytes=accounting.weight_bytes(shape, widths),
            file_bytes=accounting.weight_bytes(shape, widths) + headers,
        )
        for number, (target, widths) in enumerate(models)
    )
