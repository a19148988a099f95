"""The largest cut whose drop is within a bound, found by bisection over cuts of the original, before the first step.

Each trial cuts as the job does (its granularity, criterion, basis and compensation), without recovery, and is measured on all of
validation. The model is scored once for all of them, and the first step uses the same scores.
"""

import logging
from collections.abc import Callable

from api_schemas.enums import TargetKind
from api_schemas.formatting import percent, points
from api_schemas.results.display import written
from api_schemas.results.metrics import DropSearch, Scores, TriedCut
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import SHARE_OF, Pruning
from checkpoints.planning.feasibility import infeasible, narrowest, smallest_cut
from checkpoints.sizes.cost_model import MOST_TRIALS
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.latency.table import LatencyModel
from worker.engine.pruning.selection import Selection
from worker.engine.stop import drop, within

log = logging.getLogger(__name__)


def search(
    dense: LoadedModel,
    original: Scores,
    shape: ModelShape,
    pruning: Pruning,
    *,
    select: Callable[[float], Selection],
    cut: Callable[[Selection], LoadedModel],
    evaluate: Callable[[LoadedModel], Scores],
    latency: LatencyModel | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> DropSearch:
    """Try up to MOST_TRIALS cuts of `dense`, which is not changed and scores `original` on validation.

    Begins at half of what can be reached and halves the interval each time: upwards where the drop was within the bound,
    downwards where it was not. Where larger cuts never lose less, no cut that would hold is larger than the largest tried one
    that did by more than 1/256 of the reach and a structure. Where they sometimes do, what held was still measured to hold, and
    there may be a larger one beyond one that did not. Shares that come to one cut are tried once, and a share that comes to none
    counts as held.

    Args:
        select: what stays once a share of the original is gone, in the unit of the target; not cheap, but without samples.
        cut: the smaller model.
        evaluate: its scores on validation.
        latency: what a latency is looked up in; needed for that, and only there.
        progress: (done, the most there may be).

    Raises SPARSITY_OUT_OF_REACH where no share comes to a cut, which a latency may.
    """
    bound, kind = pruning.target.max_drop, pruning.target.kind
    assert bound is not None
    size = _size(shape, kind, latency)
    reach, finest = size(narrowest(shape, dense.widths, pruning)), _finest(shape, dense.widths, pruning)
    low, high = 0.0, reach
    tried: dict[Selection, TriedCut] = {}
    whole = Selection.all(dense.widths)
    while len(tried) < MOST_TRIALS and high - low > finest / 4:
        share = (low + high) / 2
        kept = select(share)
        if kept == whole:
            low = share
            continue
        if kept not in tried:
            smaller = cut(kept)
            scores = evaluate(smaller)
            lost = drop(original, scores)
            tried[kept] = TriedCut(
                requested=share,
                achieved=size(smaller.widths),
                validation=scores,
                drop=lost,
                within=within(original, scores, bound),
            )
            log.info(
                "tried to remove %s of the %s: %s on validation, a drop of %s", percent(share, 2), SHARE_OF[kind],
                written(scores), points(round(lost, 6)),
            )  # fmt: skip
            progress(len(tried), MOST_TRIALS)
        low, high = (share, high) if tried[kept].within else (low, share)
    if not tried:
        raise infeasible(
            "max_drop",
            "nothing can be removed",
            f"No cut reduces this model's {SHARE_OF[kind]}, whatever the allowed drop.",
        )
    progress(MOST_TRIALS, MOST_TRIALS)
    return DropSearch(of=kind, max_drop=bound, reach=reach, tried=tuple(tried.values()))


def _size(shape: ModelShape, kind: TargetKind, latency: LatencyModel | None) -> Callable[[AttentionWidths], float]:
    """Of widths, the share of the original that is gone, in the unit of `kind`."""
    if kind is not TargetKind.LATENCY:
        return CostUnit.of(shape, kind).share
    if latency is None:
        raise ValueError("the smallest latency needs a latency table")
    return latency.saved


def _finest(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> float:
    """The smallest cut; of latency, which has none before it is measured, the same share of the FLOPs."""
    kind = pruning.target.kind
    return smallest_cut(shape, widths, pruning, TargetKind.FLOPS if kind is TargetKind.LATENCY else kind)
