"""Targets in their own unit: which channels stay at a share of it, and what was met.

Parameters and FLOPs are counted, so selection meets them directly. Latency is looked up (latency/table.py): the attention
sparsity whose selection has the latency nearest to the target's is found by bisection.
"""

from collections.abc import Sequence

from api_schemas.enums import Layout, Part, TargetKind
from api_schemas.results import speed
from api_schemas.results.metrics import Latency, TargetMet
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import included_neurons, infeasible, least_neurons, narrowest
from checkpoints.planning.schedule import share_of_neurons
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.latency.table import LatencyModel
from worker.engine.models.feed_forward import Neurons, all_neurons
from worker.engine.pruning.selection import KeptHeads, Ranking, Selection, keep_all, select, widths_of
from worker.engine.scoring import LayerScores, NeuronScores

LATENCY_SLACK, MOST_SLACK = 0.01, 0.1
"""A latency target beyond reach by less than the first gets the most there is: two measurements differ by as much. On a busy
machine, by less than the noise of the table, up to the second."""


def check_latency(latency: LatencyModel, shape: ModelShape, pruning: Pruning) -> None:
    """Raise SPARSITY_OUT_OF_REACH with the maximum where no selection from the original is fast enough."""
    most = max(0.0, latency.saved(narrowest(shape, shape.dense, pruning)))
    table = latency.table
    if pruning.target.share > most + max(LATENCY_SLACK, min(table.noise, MOST_SLACK)):
        raise infeasible(
            TargetKind.LATENCY,
            f"maximum {most:.4f}",
            f"{pruning.granularity.value} can save at most {most:.4f} of this model's latency on this worker ({table.device}, "
            f"batch size {table.batch_size}): {table.other_ms:.3g} of {table.dense_ms:.3g} ms are spent outside attention. "
            f"{pruning.target.share:.4f} was asked for.",
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
) -> Selection:
    """What stays once `share` of the ORIGINAL model is gone, in the target's unit, to the nearest structure.

    `widths` and `scores` are of the model as it is now; `scores` or `neurons` may be left out where the spec does not cut there.
    Where it has a share for each, the feed-forward blocks' follows attention's. `latency` is needed for a latency target, and
    only there. Of neurons that are chosen while they are refitted (`brain_surgeon`), only how many there are is settled here: the
    first stand for them.

    Raises SPARSITY_OUT_OF_REACH where a latency target, at its full share, is nearer to removing nothing at all.
    """
    kind = pruning.target.kind
    if pruning.joint_parts:
        heads, stay = Ranking(scores, widths, shape, pruning, neurons=neurons).heads_and_neurons(share)
        if pruning.by_surgeon:
            unit, left = CostUnit.of(shape, kind), widths.model_copy(update={"feed_forward": tuple(map(len, stay))})
            blocks = range(len(unit.neuron))
            amount = unit.removed(left, blocks, "neuron") - unit.removed(widths, blocks, "neuron")
            stay = even_neurons(widths, shape, pruning, unit, amount)
        return Selection(heads, stay)
    if kind is not TargetKind.LATENCY:
        heads, stay = keep_all(widths), all_neurons(widths)
        if Part.ATTENTION in pruning.cuts:
            heads = select(scores, widths, shape, pruning, share=share)
        if Part.FEED_FORWARD in pruning.cuts:
            of_neurons = TargetKind.FFN_SPARSITY if pruning.target.ffn_sparsity is not None else kind
            own = share_of_neurons(pruning, share)
            if pruning.by_surgeon:
                unit = CostUnit.of(shape, of_neurons)
                gone = unit.removed(widths, included_neurons(shape, pruning), "neuron")
                return Selection(heads, even_neurons(widths, shape, pruning, unit, own * unit.total - gone))
            ranking = Ranking((), widths, shape, pruning, of_neurons, included=(), neurons=neurons)
            stay = ranking.neurons(own)
        return Selection(heads, stay)
    if latency is None:
        raise ValueError("a latency target needs a latency table")
    ranking = Ranking(scores, widths, shape, pruning, TargetKind.ATTENTION_SPARSITY)
    keep = _nearest_latency(ranking, widths, latency, shape, share)
    untouched = widths == shape.dense
    if pruning.target.max_drop is None and share >= pruning.target.share and untouched and keep == keep_all(widths):
        raise infeasible(
            TargetKind.LATENCY,
            "nearer to nothing",
            f"Saving {share:.4g} of this model's latency on this worker is nearer to removing nothing than to any cut "
            f"{pruning.granularity.value} can make. Ask for more.",
        )
    return Selection(keep, all_neurons(widths))


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
    ranking: Ranking, widths: AttentionWidths, latency: LatencyModel, shape: ModelShape, saved: float
) -> KeptHeads:
    """Bisection over attention sparsity, down to a channel; of all selections tried the one nearest to `saved`.

    Latency falls in jumps (widths share a padded width) and not everywhere (heads made unequal have to be copied), so the
    nearest is kept rather than the last.
    """
    smallest = min(map(accounting.qk_channel_parameters, shape.attention))
    channel = smallest / accounting.attention_parameters(shape, shape.dense)
    low, high = accounting.attention_sparsity(shape, widths), 1.0
    best = keep_all(widths)
    distance = abs(latency.saved(widths) - saved)
    while high - low > channel / 2:
        middle = (low + high) / 2
        keep = ranking.heads(middle)
        found = latency.saved(widths_of(keep, widths))
        if abs(found - saved) < distance:
            best, distance = keep, abs(found - saved)
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
