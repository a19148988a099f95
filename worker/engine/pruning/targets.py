"""Targets in their own unit: which channels remain at a share of it, and what was achieved.

Parameters and FLOPs are counted, so selection meets them directly. Latency is looked up (latency/table.py): bisection finds the
share of the attention parameters, or of the FLOPs if feed-forward blocks are cut, whose selection has the latency nearest to the
target.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from api_schemas.enums import Layout, Part, TargetKind
from api_schemas.results import speed
from api_schemas.results.metrics import Latency, TargetMet
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import included_neurons, infeasible, least_neurons, narrowest
from checkpoints.planning.schedule import share_of_neurons
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.latency.table import LatencyModel
from worker.engine.models.feed_forward import Neurons, all_neurons
from worker.engine.pruning.selection import KeptHead, KeptHeads, Ranking, Selection, keep_all
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import LayerScores, NeuronScores

LATENCY_SLACK, MOST_SLACK = 0.01, 0.1
"""A latency target beyond reach by less than the first gets the most there is: two measurements differ by as much. On a busy
machine, by less than the noise of the table, up to the second."""


def little_left(dense: LoadedModel, pruning: Pruning) -> LoadedModel:
    """Of what may be cut a quarter of the heads, half as wide, and an eighth of the neurons: a second model to time."""
    widths, heads, neurons = dense.widths, keep_all(dense.widths), all_neurons(dense.widths)

    def half(layer: LayerWidths, side: str, head: int) -> tuple[int, ...]:
        units = layer.units(side, head)
        return tuple(sorted(channel for unit in units[: ceil(len(units) / 2)] for channel in unit))

    if Part.ATTENTION in pruning.cuts:
        heads = tuple(
            tuple(KeptHead(h, half(layer, "qk", h), half(layer, "vo", h)) for h in range(ceil(layer.heads / 4)))
            for layer in widths.layers
        )
    if Part.FEED_FORWARD in pruning.cuts:
        neurons = tuple(stay[: ceil(len(stay) / 8)] for stay in neurons)
    kept = Selection(heads, neurons)
    return replace(dense, model=cut(dense.model, dense.model_spec, widths, heads, neurons), widths=kept.widths(widths))


def check_latency(latency: LatencyModel, shape: ModelShape, pruning: Pruning) -> None:
    """Raise SPARSITY_OUT_OF_REACH with the maximum where no selection from the original is fast enough."""
    most = max(0.0, latency.saved(narrowest(shape, shape.dense, pruning)))
    table = latency.table
    if pruning.target.share > most + max(LATENCY_SLACK, min(table.noise, MOST_SLACK)):
        raise infeasible(
            TargetKind.LATENCY,
            f"maximum {most:.4f}",
            f"{pruning.granularity.value} can save at most {most:.4f} of this model's latency on this worker "
            f"({table.device}, batch size {table.batch_size}): {table.other_ms:.3g} of {table.dense_ms:.3g} ms are "
            f"spent outside what may be cut. The target is {pruning.target.share:.4f}.",
        )


def selection_for(
    scores: Sequence[LayerScores],
    widths: AttentionWidths,
    shape: ModelShape,
    pruning: Pruning,
    *,
    share: float,
    neurons: Sequence[NeuronScores] = (),
    latency: LatencyModel | None = None,
    shift: float = 0.0,
) -> Selection:
    """What stays once `share` of the ORIGINAL model is gone, in the target's unit, to the nearest structure.

    `widths` and `scores` are of the model as it is now; `scores` or `neurons` may be left out where the spec does not cut there.
    Where it has a share for each, the feed-forward blocks' follows attention's. `latency` is needed for a latency target, and
    only there. Of neurons that are chosen while they are refitted (`brain_surgeon`), only how many there are is settled here: the
    first stand for them. Where they share a target with attention, `shift` times `share` of the original's go beyond what the
    ranking of both says (part_shares.py).

    Raises SPARSITY_OUT_OF_REACH where a latency target, at its full share, is nearer to removing nothing at all.
    """
    kind = pruning.target.kind
    if kind is not TargetKind.LATENCY:
        return _selector(scores, widths, shape, pruning, kind, neurons, shift)(share)
    if latency is None:
        raise ValueError("a latency target needs a latency table")
    counted = TargetKind.ATTENTION_SPARSITY if pruning.cuts == {Part.ATTENTION} else TargetKind.FLOPS
    select_share = _selector(scores, widths, shape, pruning, counted, neurons, shift)
    kept = _nearest_latency(select_share, widths, latency, shape, counted, share)
    untouched = widths == shape.dense
    if (
        pruning.target.max_drop is None
        and share >= pruning.target.share
        and untouched
        and kept == Selection.all(widths)
    ):
        raise infeasible(
            TargetKind.LATENCY,
            "closer to nothing",
            f"Saving {share:.4g} of this model's latency on this worker is closer to removing nothing than to any cut "
            f"that {pruning.granularity.value} can make. Use a higher target.",
        )
    return kept


def _selector(
    scores: Sequence[LayerScores],
    widths: AttentionWidths,
    shape: ModelShape,
    pruning: Pruning,
    kind: TargetKind,
    neurons: Sequence[NeuronScores],
    shift: float,
) -> Callable[[float], Selection]:
    """What stays once a share of the original, in the unit of `kind`, is gone; scores are ranked once for all shares."""
    joint = pruning.joint_parts
    unit, fed = CostUnit.of(shape, kind), range(len(shape.feed_forward))
    of_neurons = TargetKind.FFN_SPARSITY if pruning.target.ffn_sparsity is not None else kind
    ranking = blocks = alone = None
    if Part.ATTENTION in pruning.cuts:
        ranking = Ranking(scores, widths, shape, pruning, kind, neurons=neurons if joint else ())
    if Part.FEED_FORWARD in pruning.cuts and not joint and not pruning.by_surgeon:
        blocks = Ranking((), widths, shape, pruning, of_neurons, included=(), neurons=neurons)
    if joint and pruning.by_surgeon and shift:
        alone = Ranking(scores, widths, shape, pruning.model_copy(update={"parts": (Part.ATTENTION,)}), kind)

    def select_share(share: float) -> Selection:
        if ranking is not None and joint:
            ranked = by_ranking(*ranking.heads_and_neurons(share))
            return ranked if alone is None else shifted(alone, ranked, share)
        heads, stay = keep_all(widths), all_neurons(widths)
        if ranking is not None:
            heads = ranking.heads(share)
        if Part.FEED_FORWARD in pruning.cuts:
            own = share_of_neurons(pruning, share)
            if blocks is not None:
                stay = blocks.neurons(own)
            else:
                counted = CostUnit.of(shape, of_neurons)
                gone = counted.removed(widths, included_neurons(shape, pruning), "neuron")
                stay = even_neurons(widths, shape, pruning, counted, own * counted.total - gone)
        return Selection(heads, stay)

    def gone(counts: Neurons) -> int:
        """What neurons have given up of the original once only these stay."""
        return unit.removed(widths.model_copy(update={"feed_forward": tuple(map(len, counts))}), fed, "neuron")

    def even(amount: float) -> Neurons:
        return even_neurons(widths, shape, pruning, unit, amount - gone(all_neurons(widths)))

    def by_ranking(heads: KeptHeads, stay: Neurons) -> Selection:
        return Selection(heads, even(gone(stay)) if pruning.by_surgeon else stay)

    def shifted(attention: Ranking, ranked: Selection, share: float) -> Selection:
        """More neurons gone, or fewer, attention as near to the rest as it comes, and neurons what is then left of the share."""
        stay = even(gone(ranked.neurons) + shift * share * unit.original(included_neurons(shape, pruning), "neuron"))
        heads = attention.heads(share - gone(stay) / unit.total)
        of_attention = unit.removed(Selection(heads, stay).widths(widths), range(len(unit.qk)))
        return Selection(heads, even(share * unit.total - of_attention))

    return select_share


def even_neurons(
    widths: AttentionWidths, shape: ModelShape, pruning: Pruning, unit: CostUnit, amount: float
) -> Neurons:
    """As many neurons of every block as stay once those blocks that may be cut have given up `amount` more, in the unit.

    `align` at a time from the block that has lost the least share of what the original had; with a stock layout from all at once;
    as long as one more comes nearer to `amount`. The first of each block stand for those that stay.
    """
    counts, included = list(widths.feed_forward), included_neurons(shape, pruning)
    original, least = shape.dense.feed_forward, least_neurons(pruning)
    together = [included] if pruning.layout is Layout.STOCK else [(number,) for number in included]
    removed = 0
    while True:
        able = [group for group in together if all(counts[n] - pruning.multiple >= least for n in group)]
        if not able:
            break
        group = max(able, key=lambda numbers: counts[numbers[0]] / original[numbers[0]])
        cost = pruning.multiple * sum(unit.neuron[number] for number in group)
        if abs(removed + cost - amount) >= abs(removed - amount):
            break
        removed += cost
        for number in group:
            counts[number] -= pruning.multiple
    return tuple(tuple(range(count)) for count in counts)


def _nearest_latency(
    select_share: Callable[[float], Selection],
    widths: AttentionWidths,
    latency: LatencyModel,
    shape: ModelShape,
    counted: TargetKind,
    saved: float,
) -> Selection:
    """Bisection over shares of what is `counted`, down to a channel or neuron; of all that was tried the nearest to `saved`.

    Latency falls in jumps (widths share a padded width) and not everywhere (heads made unequal have to be copied), so the
    nearest is kept rather than the last.
    """
    unit = CostUnit.of(shape, counted)
    finest = min(unit.qk if counted is TargetKind.ATTENTION_SPARSITY else (*unit.qk, *unit.neuron)) / unit.total
    low, high = unit.share(widths), 1.0
    best = Selection.all(widths)
    distance = abs(latency.saved(widths) - saved)
    while high - low > finest / 2:
        middle = (low + high) / 2
        kept = select_share(middle)
        found = latency.saved(kept.widths(widths))
        if abs(found - saved) < distance:
            best, distance = kept, abs(found - saved)
        if found < saved:
            low = middle
        else:
            high = middle
    return best


def target_met(
    shape: ModelShape, pruning: Pruning, requested: float, widths: AttentionWidths, timed: Sequence[Latency] = ()
) -> TargetMet:
    """Requested against achieved, in the target's unit. Latency is what was `timed` at the target's batch size, the first."""
    kind = pruning.target.kind
    measured = kind is TargetKind.LATENCY
    achieved = 1.0 - 1.0 / speed.ratio(timed[0]) if measured else CostUnit.of(shape, kind).share(widths)
    return TargetMet(kind=kind, requested=requested, achieved=achieved)


def requested_sparsity(shape: ModelShape, pruning: Pruning, requested: float, widths: AttentionWidths) -> float:
    """The attention sparsity that a share of the target amounts to, 0 where attention is not cut.

    The one that selection settled on where the target does not say: for latency, and where feed-forward neurons compete.
    """
    if Part.ATTENTION not in pruning.cuts:
        return 0.0
    if pruning.target.kind is TargetKind.ATTENTION_SPARSITY:
        return requested
    if pruning.target.kind is TargetKind.LATENCY or pruning.joint_parts:
        return accounting.attention_sparsity(shape, widths)
    unit = CostUnit.of(shape, pruning.target.kind)
    attention = CostUnit.of(shape, TargetKind.ATTENTION_SPARSITY)
    everything = range(len(shape.attention))
    return requested * unit.total / unit.original(everything) * attention.original(everything) / attention.total


def neurons_met(shape: ModelShape, pruning: Pruning, requested: float, widths: AttentionWidths) -> TargetMet | None:
    """Requested against achieved of the feed-forward blocks, where they have a share of their own beside attention's."""
    if len(pruning.target.goals) == 1:
        return None
    kind = TargetKind.FFN_SPARSITY
    return TargetMet(
        kind=kind, requested=share_of_neurons(pruning, requested), achieved=CostUnit.of(shape, kind).share(widths)
    )
