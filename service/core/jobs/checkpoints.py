"""Committed steps and their files. A step without a model to download gets another error than an unknown job."""

from collections.abc import Sequence

from api_schemas.api.resources import CheckpointResource
from api_schemas.errors import ErrorCode, SecateurError
from service.core import resources
from service.core.jobs.jobs import find_job
from service.services import Services
from store.database.tables import JobStep, JobStepFile
from store.jobs import jobs

REPORT = "report.html"


def all_of(services: Services, job_id: str) -> Sequence[JobStep]:
    """Every step with a model, in order. Raises NOT_FOUND, DELETED, or EXPIRED where their time is over."""
    with services.database.read() as session:
        find_job(session, services, job_id)
        steps = jobs.steps(session, services.tenant, job_id)
    if any(step.expired for step in steps):
        detail = "The checkpoints of this job have expired and were removed; its metrics are still available."
        raise SecateurError(ErrorCode.EXPIRED, detail)
    return [step for step in steps if step.downloadable]


def described(services: Services, job_id: str, steps: Sequence[JobStep]) -> Sequence[CheckpointResource]:
    """Steps of one job as resources. Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        expires_at = resources.result_expires_at(find_job(session, services, job_id), services.settings)
    return [resources.checkpoint(step, expires_at) for step in steps]


def one(services: Services, job_id: str, step: int) -> JobStep:
    """Raises NOT_FOUND (no such job) or NO_CHECKPOINT (no such step, or one without a model)."""
    rows = all_of(services, job_id)
    for row in rows:
        if row.step == step:
            return row
    steps = ", ".join(str(row.step) for row in rows) or "none yet"
    hint = " Step 0 is the original model, which is not stored a second time." if step == 0 else ""
    raise SecateurError(
        ErrorCode.NO_CHECKPOINT, f"Job {job_id} has no checkpoint of step {step}; available steps: {steps}.{hint}"
    )


def file_of(services: Services, job_id: str, step: int, name: str) -> JobStepFile:
    """Raises NOT_FOUND or NO_CHECKPOINT."""
    row = one(services, job_id, step)
    for file in row.files:
        if file.name == name:
            return file
    names = ", ".join(file.name for file in row.files)
    raise SecateurError(ErrorCode.NOT_FOUND, f"Step {step} of {job_id} has no file {name!r}; its files are {names}.")


def report_of(services: Services, job_id: str) -> JobStepFile:
    """The newest step's report. Raises NOT_FOUND or NO_CHECKPOINT."""
    for step in reversed(all_of(services, job_id)):
        for file in step.files:
            if file.name == REPORT:
                return file
    raise SecateurError(
        ErrorCode.NO_CHECKPOINT, f"Job {job_id} has no report yet; it is available after the first step."
    )
