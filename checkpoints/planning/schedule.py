"""The schedule: which share, in the target's unit, is removed after each step."""

from api_schemas.enums import ScheduleShape, TargetKind
from api_schemas.results.metrics import DropSearch
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import max_share, smallest_cut
from checkpoints.sizes.shape import ModelShape

CONFIRMED_SHARES = (1.0, 0.75, 0.5)
"""Of the cut that was found for a bound on the drop: what is recovered and measured, until one is within the bound."""


def step_targets(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> tuple[float, ...]:
    """Cumulative shares after each step, in the target's unit; the last is the target.

    `linear`: k/n of the target after step k of n. `cubic`: 1 − (1 − k/n)³ of it (Zhu and Gupta, arXiv 1710.01878, eq. 1,
    from an initial sparsity of 0): most goes at first, where there is most to spare.

    A step that would remove no structure more than the one before it (the paper's 10% is less than one head a layer
    in a small model) is left out: recovery without a cut is not a step. For latency, which has no smallest cut before it
    is measured, the same share of the FLOPs stands in.

    Of a bound on the drop, which is met in one step, all that can go: what it comes to lies between nothing and that.
    """
    kind, steps = pruning.target.kind, pruning.steps
    counted = _counted(kind)
    if pruning.target.max_drop is not None:
        return (max_share(shape, widths, pruning, counted),)
    target = pruning.target.share
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


def confirmation_targets(
    shape: ModelShape, widths: AttentionWidths, pruning: Pruning, search: DropSearch
) -> tuple[float, ...]:
    """The shares that a bound on the drop is confirmed at, one step after another until one holds, each from the original.

    The largest cut that held without recovery, then CONFIRMED_SHARES of it; where none held the least, which recovery may bring
    within the bound. A share that would leave as many structures as the one before it, or all, is left out.
    """
    held = [cut for cut in search.tried if cut.within]
    if not held:
        return (min(cut.requested for cut in search.tried),)
    smallest = smallest_cut(shape, widths, pruning, _counted(search.of))
    first = max(held, key=lambda cut: (cut.achieved, cut.requested)).requested
    shares, counts = [first], [round(first / smallest)]
    for part in CONFIRMED_SHARES[1:]:
        count = round(part * first / smallest)
        if 0 < count < counts[-1]:
            shares.append(part * first)
            counts.append(count)
    return tuple(shares)


def _counted(kind: TargetKind) -> TargetKind:
    return TargetKind.FLOPS if kind is TargetKind.LATENCY else kind


def share_of_neurons(pruning: Pruning, share: float) -> float:
    """The feed-forward blocks' share when the target's own stands at `share`."""
    if pruning.target.kind is TargetKind.FFN_SPARSITY or pruning.target.ffn_sparsity is None:
        return share
    return share / pruning.target.share * pruning.target.ffn_sparsity
