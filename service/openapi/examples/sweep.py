"""A sweep of two jobs, one of which has ended, for the documentation. Built from the models, so it cannot go stale."""

from typing import Any

from pydantic import BaseModel

from api_schemas.api.resources import Page
from api_schemas.api.sweeps import SweepDetail, SweepFronts, SweepOriginal, SweepResource, SweepRow
from api_schemas.enums import JobState, SweepState
from service.openapi.examples.job import FIRST_STEP, JOB, NOON

_IN_LIST = SweepResource(
    id="swp_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    name="by how much",
    state=SweepState.RUNNING,
    created_at=NOON,
    max_parallel=4,
    jobs={JobState.RUNNING: 1, JobState.SUCCEEDED: 1},
)
_ORIGINAL = JOB.metrics[0]


def _of(share: float) -> dict[str, Any]:
    return {"pruning": {"target": {"attention_sparsity": share}}}


_SWEEP = SweepDetail(
    **_IN_LIST.model_dump(),
    model=JOB.request.model,
    dataset=JOB.request.dataset,
    metric="accuracy",
    original=SweepOriginal(
        size=_ORIGINAL.size, validation=_ORIGINAL.validation, test=_ORIGINAL.test, latency=_ORIGINAL.latency
    ),
    rows=(
        SweepRow(
            index=0, label="attention_sparsity=0.1", changes=_of(0.1), job=f"job_{'b' * 26}", state=JobState.SUCCEEDED, step=1,
            achieved_sparsity=FIRST_STEP.achieved_sparsity, size=FIRST_STEP.size, validation=FIRST_STEP.validation,
            test=FIRST_STEP.validation, latency=FIRST_STEP.latency,
        ),
        SweepRow(index=1, label="attention_sparsity=0.5", changes=_of(0.5), job=JOB.id, state=JobState.RUNNING),
    ),
    fronts=SweepFronts(parameters=(f"job_{'b' * 26}",), flops=(f"job_{'b' * 26}",), latency=(f"job_{'b' * 26}",)),
)  # fmt: skip
_QUEUED = _SWEEP.model_copy(
    update={
        "state": SweepState.QUEUED,
        "jobs": {JobState.QUEUED: 2},
        "metric": None,
        "original": None,
        "rows": tuple(
            SweepRow(index=row.index, label=row.label, changes=row.changes, job=row.job, state=JobState.QUEUED)
            for row in _SWEEP.rows
        ),
        "fronts": SweepFronts(),
    }
)

ANSWERS: dict[str, BaseModel] = {
    "create_sweep": _QUEUED,
    "list_sweeps": Page[SweepResource](items=(_IN_LIST,)),
    "get_sweep": _SWEEP,
    "cancel_sweep": _SWEEP.model_copy(update={"jobs": {JobState.CANCELLING: 1, JobState.SUCCEEDED: 1}}),
    "pause_sweep": _SWEEP,
    "resume_sweep": _SWEEP,
}
"""By operation id."""
