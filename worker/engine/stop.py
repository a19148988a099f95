"""Bounds on the drop: whether a job ends after a step, and which step is then its result. Decided on validation only."""

from collections.abc import Sequence

from api_schemas.enums import StopReason
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.formatting import points
from api_schemas.results.metrics import JobResult, Scores, StepMetrics
from api_schemas.spec.job import Stop
from api_schemas.spec.pruning import Target

# 0.89 - 0.88 is 0.010000000000000009 in binary: a drop of exactly the bound is within it.
ROUNDING = 1e-9


def check_watchable(original: StepMetrics, stop: Stop | None, target: Target | None = None) -> None:
    """Raise DATASET_SCHEMA where there is a bound, and nothing on validation that could exceed it."""
    bounded = target is not None and target.max_drop is not None
    if (stop is not None or bounded) and original.validation.metric is None:
        field, instead = (
            ("pruning.target.max_drop", "use a share as target") if bounded else ("stop.max_drop", "leave out stop")
        )
        detail = (
            f"{field} bounds the drop of the task's metric on validation, but that metric is undefined: no validation "
            f"sample has a label or a word. Use a validation split with labels, or {instead}."
        )
        pointer = "/pruning/target/max_drop" if bounded else "/stop"
        raise SecateurError(
            ErrorCode.DATASET_SCHEMA,
            detail,
            (ErrorItem(pointer=pointer, code=ErrorCode.DATASET_SCHEMA, detail=detail),),
        )


def drop(original: Scores, scores: Scores) -> float:
    """How far the task's metric lies below the original's on the same split; negative where it lies above."""
    before, after = original.metric, scores.metric
    if before is None or after is None:
        raise ValueError("the task's metric was not measured on validation")
    return before - after


def within(original: Scores, scores: Scores, max_drop: float) -> bool:
    """Whether that is no more than `max_drop`."""
    return drop(original, scores) <= max_drop + ROUNDING


def confirmed(steps: Sequence[StepMetrics], max_drop: float, *, last: bool) -> JobResult | None:
    """What a job whose target is a bound comes to after `steps`, of which the first is the original; None where it goes on.

    `last` says that no smaller cut is left to confirm. The result's `test` is left for the caller to measure.
    """
    newest = steps[-1]
    if within(steps[0].validation, newest.validation, max_drop):
        fact = f"{_fact(steps)}; the allowed drop is {points(max_drop)}."
        return JobResult(step=newest.step, stopped=None, detail=fact, test=None)
    if not last:
        return None
    tried = "The confirmed cut loses" if newest.step == 1 else f"All {newest.step} confirmed cuts lose"
    detail = (
        f"{_fact(steps)}; the allowed drop is {points(max_drop)}. {tried} more, so the result is the original model "
        "(step 0), which is not stored a second time."
    )
    return JobResult(step=0, stopped=StopReason.MAX_DROP, detail=detail, test=None)


def result_after(steps: Sequence[StepMetrics], stop: Stop | None, *, last: bool) -> JobResult | None:
    """What the job comes to if it ends after `steps`, of which the first is the original; None where it goes on.

    `last` says that the schedule has no further step. The result's `test` is left for the caller to measure.
    """
    newest = steps[-1]
    if stop is not None and not within(steps[0].validation, newest.validation, stop.max_drop):
        return JobResult(step=newest.step - 1, stopped=StopReason.MAX_DROP, detail=_why(steps, stop), test=None)
    if not last:
        return None
    return JobResult(step=newest.step, stopped=None, detail=_completed(newest.step), test=None)


def _completed(steps: int) -> str:
    if steps == 1:
        return "The step completed."
    return "Both steps completed." if steps == 2 else f"All {steps} steps completed."


def _fact(steps: Sequence[StepMetrics]) -> str:
    """The metric of the last step beside the original's."""
    newest = steps[-1]
    before, after = steps[0].validation.headline, newest.validation.headline
    if before is None or after is None:
        raise ValueError("the task's metric was not measured on validation")
    side = "below" if after.higher_is_better == (after.value <= before.value) else "above"
    then, now = (f"{each.value:.2%}" if each.rate else f"{each.value:.4f}" for each in (before, after))
    return (
        f"At step {newest.step} {after.name} on validation was {now}, {100 * abs(before.value - after.value):.2f} points {side} "
        f"the original's {then}"
    )


def _why(steps: Sequence[StepMetrics], stop: Stop) -> str:
    newest = steps[-1]
    fact = f"{_fact(steps)}; stop.max_drop allows {100 * stop.max_drop:g}."
    if newest.step > 1:
        return f"{fact} The result is step {newest.step - 1}, the last one within the bound."
    return (
        f"{fact} No step is within the bound, so the result is the original model (step 0), which is not stored a "
        "second time."
    )
