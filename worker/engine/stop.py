"""The stop rule: whether a job ends after a step, and which step is then its result. Decided on validation alone."""

from collections.abc import Sequence

from api_schemas.enums import StopReason
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobResult, StepMetrics
from api_schemas.spec.job import Stop

# 0.89 - 0.88 is 0.010000000000000009 in binary: a drop of exactly the bound is within it.
ROUNDING = 1e-9


def check_watchable(original: StepMetrics, stop: Stop | None) -> None:
    """Raise DATASET_SCHEMA where there is a bound, and nothing on validation that could exceed it."""
    if stop is not None and original.validation.metric is None:
        detail = (
            "stop.max_drop bounds the drop of the task's metric on validation, which is undefined: no validation sample "
            "has a label, or a word. Give a validation split with labels, or leave stop out."
        )
        raise SecateurError(
            ErrorCode.DATASET_SCHEMA,
            detail,
            (ErrorItem(pointer="/stop", code=ErrorCode.DATASET_SCHEMA, detail=detail),),
        )


def drop(original: StepMetrics, step: StepMetrics) -> float:
    """How far the task's metric on validation lies below the original's; negative where it lies above."""
    before, after = original.validation.metric, step.validation.metric
    if before is None or after is None:
        raise ValueError("the task's metric was not measured on validation")
    return before - after


def result_after(steps: Sequence[StepMetrics], stop: Stop | None, *, last: bool) -> JobResult | None:
    """What the job comes to if it ends after `steps`, of which the first is the original; None where it goes on.

    `last` says that the schedule has no further step. The result's `test` is left for the caller to measure.
    """
    newest = steps[-1]
    if stop is not None and drop(steps[0], newest) > stop.max_drop + ROUNDING:
        return JobResult(step=newest.step - 1, stopped=StopReason.MAX_DROP, detail=_why(steps, stop), test=None)
    if not last:
        return None
    detail = f"All {newest.step} steps were taken." if newest.step > 1 else "The one step was taken."
    return JobResult(step=newest.step, stopped=None, detail=detail, test=None)


def _why(steps: Sequence[StepMetrics], stop: Stop) -> str:
    newest = steps[-1]
    before, after = steps[0].validation.headline, newest.validation.headline
    if before is None or after is None:
        raise ValueError("the task's metric was not measured on validation")
    side = "below" if after.higher_is_better else "above"
    then, now = (f"{each.value:.2%}" if each.rate else f"{each.value:.4f}" for each in (before, after))
    fact = (
        f"At step {newest.step} {after.name} on validation was {now}, {100 * abs(before.value - after.value):.2f} points {side} "
        f"the original's {then}; stop.max_drop allows {100 * stop.max_drop:g}."
    )
    if newest.step > 1:
        return f"{fact} The result is step {newest.step - 1}, the last one within the bound."
    return f"{fact} No step is within the bound, so the result is the original model (step 0), which is not kept again."
