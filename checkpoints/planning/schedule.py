"""The schedule: which share of the target's kind is gone after each step."""

from api_schemas.enums import ScheduleShape, TargetKind
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import smallest_cut
from checkpoints.sizes.shape import ModelShape


def step_targets(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> tuple[float, ...]:
    """Cumulative shares after each step, in the target's unit; the last is the target.

    `linear`: k/n of the target after step k of n. `cubic`: 1 − (1 − k/n)³ of it (Zhu and Gupta, arXiv 1710.01878, eq. 1,
    from an initial sparsity of 0): most goes at first, where there is most to spare.

    A step that would remove no structure more than the one before it (the paper's 10% is less than one head a layer
    in a small model) is left out: recovery without a cut is not a step. For latency, which has no smallest cut before it
    is measured, the same share of the FLOPs stands in.
    """
    kind, target, steps = pruning.target.kind, pruning.target.share, pruning.steps
    counted = TargetKind.FLOPS if kind is TargetKind.LATENCY else kind
    smallest = smallest_cut(shape, widths, pruning, counted)
    targets: list[float] = []
    counts: list[int] = []
    for step in range(1, steps + 1):
        done = step / steps
        share = target * (done if pruning.schedule.shape is ScheduleShape.LINEAR else 1.0 - (1.0 - done) ** 3)
        count = round(share / smallest)
        if count and (not counts or count > counts[-1]):
            targets.append(share)
            counts.append(count)
    return (*targets[:-1], target)


def share_of_neurons(pruning: Pruning, share: float) -> float:
    """The feed-forward blocks' share when the target's own stands at `share`."""
    if pruning.target.kind is TargetKind.FFN_SPARSITY or pruning.target.ffn_sparsity is None:
        return share
    return share / pruning.target.share * pruning.target.ffn_sparsity
