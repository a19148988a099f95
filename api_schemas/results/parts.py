"""The parts of a model that a job cuts: how much of each was asked for and has gone, in numbers and in words."""

from collections.abc import Collection, Sequence

from api_schemas.enums import Part, TargetKind
from api_schemas.formatting import percent, points
from api_schemas.results.metrics import DropSearch, StepMetrics, TriedCut
from api_schemas.spec.pruning import SHARE_OF, Pruning

NAMES = {Part.ATTENTION: "attention", Part.FEED_FORWARD: "feed-forward"}


def cut_by(pruning: Pruning) -> tuple[Part, ...]:
    """In one order everywhere."""
    return tuple(part for part in Part if part in pruning.cuts)


def removed(step: StepMetrics, part: Part) -> float:
    """Share of the original's parameters of this part that is gone."""
    return step.achieved_sparsity if part is Part.ATTENTION else step.ffn_sparsity


def asked(step: StepMetrics, part: Part, pruning: Pruning) -> float | None:
    """What the step should have removed of it.

    None where nothing was asked of the part by itself: it competes with another, or the target counts something else.
    """
    if pruning.joint_parts:
        return None
    if part is Part.ATTENTION:
        return step.requested_sparsity
    of_its_own = next(
        (met for met in (step.target, step.ffn_target) if met and met.kind is TargetKind.FFN_SPARSITY), None
    )
    return None if of_its_own is None else of_its_own.requested


def parameters(step: StepMetrics, part: Part) -> int:
    """How many it has."""
    return step.size.attention_parameters if part is Part.ATTENTION else step.size.feed_forward_parameters


def together(original: StepMetrics, step: StepMetrics, parts: Collection[Part]) -> float:
    """Share of the parameters of all these parts that is gone: what figures are drawn against."""
    whole = sum(parameters(original, part) for part in parts)
    if len(parts) == 1 or not whole:
        return max(removed(step, part) for part in parts)
    return sum(removed(step, part) * parameters(original, part) for part in parts) / whole


def name_of(parts: Collection[Part]) -> str:
    """`attention and feed-forward`."""
    return " and ".join(NAMES[part] for part in parts)


def removed_in_words(step: StepMetrics, pruning: Pruning) -> str:
    """`50.1% of its attention and 49.8% of its feed-forward parameters`."""
    shares = (f"{percent(removed(step, part))} of its {NAMES[part]}" for part in cut_by(pruning))
    return f"{' and '.join(shares)} parameters"


def goals_in_words(pruning: Pruning) -> str:
    """`50.0% of the original attention parameters and 25.0% of the original feed-forward parameters`; of a bound `the smallest
    model by FLOPs that loses no more than 1 point on validation`."""
    target = pruning.target
    if target.max_drop is not None:
        return f"the smallest model by {SHARE_OF[target.kind]} that loses no more than {points(target.max_drop)} on validation"
    return " and ".join(f"{percent(share)} of the original {SHARE_OF[kind]}" for kind, share in pruning.target.goals)


def found_in_words(search: DropSearch) -> str:
    """What the cuts that were tried for a bound on the drop came to, in a sentence."""
    of_it, number = f"of the original {SHARE_OF[search.of]}", len(search.tried)
    held = [cut for cut in search.tried if cut.within]
    if held:
        best = max(held, key=lambda cut: (cut.achieved, cut.requested))
        lost = (
            "loses nothing"
            if best.drop == 0
            else f"{'loses' if best.drop > 0 else 'gains'} {abs(100 * best.drop):.2f} points"
        )
        return (
            f"Of {number} cut{'s' if number > 1 else ''} tried without recovery, the largest within the bound removes "
            f"{percent(best.achieved, 2)} {of_it} and {lost} on validation."
        )
    least = min(search.tried, key=lambda cut: cut.requested)
    return (
        f"No cut of {number} tried without recovery is within the bound; the smallest removes {percent(least.achieved, 2)} "
        f"{of_it} and loses {drop_written(least)} on validation."
    )


def drop_written(cut: TriedCut) -> str:
    """`1.67 points`; of what is better than the original `gain of 0.80 points`."""
    return f"{'gain of ' if cut.drop < 0 else ''}{abs(100 * cut.drop):.2f} points"


def left(steps: Sequence[StepMetrics], parts: Collection[Part]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """What is counted, and the share of the original's that every step has: parameters, FLOPs, bytes of the file."""
    counts: list[tuple[str, list[int]]] = [
        *((f"{NAMES[part]} parameters", [parameters(step, part) for step in steps]) for part in parts),
        ("all parameters", [step.size.total_parameters for step in steps]),
        ("FLOPs per input", [step.size.flops for step in steps]),
        ("file", [step.size.file_bytes for step in steps]),
    ]
    return tuple((name, tuple(count / found[0] for count in found)) for name, found in counts if found[0])
