"""Accepts a job only if it can run: its inputs exist, its target is within reach, its labels match the model's."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import AuditAction, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.inputs import HubDataset, UploadedDataset
from api_schemas.spec.job import JobRequest
from checkpoints.families import family_named
from checkpoints.planning.feasibility import check_feasible
from checkpoints.planning.settled import settled
from checkpoints.task_rules import check_exports, check_labels, check_layout
from service.core.jobs import model_source, needs
from service.core.jobs.model_source import ModelSource
from service.core.uploads.dataset_checks import check_dataset, check_split_names
from service.services import Services
from store.access import quotas
from store.database.tables import Job
from store.jobs import jobs
from store.uploads import uploads


@dataclass(frozen=True)
class Accepted:
    """A request that can run, as far as is known before a worker has the model, and its inputs."""

    request: JobRequest
    """With the values that it leaves to the model filled in, if the model is known."""
    model: ModelSource
    samples: dict[Split, int] | None
    """Rows of the dataset by role, including held-out ones; null if only the worker can count them."""
    inputs: frozenset[str]
    lineage: dict[str, str]
    warnings: tuple[JobWarning, ...] = ()
    dataset: str | None = None
    """The uploaded one."""
    contents: DatasetContents | None = None
    """What is in it."""


def check(services: Services, request: JobRequest, model: ModelSource | None = None) -> Accepted:
    """Check a request without writing anything. `model`: the request's, if it has been found before.

    Raises what `model_source.find` does; NOT_FOUND or UPLOAD_INCOMPLETE (the dataset does not exist or is not ready),
    SPARSITY_OUT_OF_REACH, WIDTH_MISALIGNED, LABELS_MISMATCH, DATASET_SCHEMA, DATASET_EMPTY, INVALID_REQUEST and
    EXPORT_UNAVAILABLE (what the model's family or task rules out), QUOTA_EXCEEDED.
    """
    model = model or model_source.find(services, request.model)
    # The worker checks a hub model once it has fetched it; the engine then makes the checks that are made here.
    known = model.known
    if known is not None:
        layout = known.layout
        check_labels(layout.head, request.pruning)
        check_exports(family_named(layout.family), layout.head, request.exports)
        check_layout(family_named(layout.family), request.pruning)
        request = settled(request, known.shape, layout.widths, layout.head)
        check_feasible(known.shape, layout.widths, request.pruning)
    said = () if known is None else known.warnings
    check_split_names(request.dataset.splits)
    if not isinstance(request.dataset, UploadedDataset):
        return Accepted(request, model, None, model.uploads, {**model.lineage, **_hub_lineage(request.dataset)}, said)
    dataset = model_source.ready_upload(services, "dataset", request.dataset.id)
    contents = DatasetContents.model_validate(dataset.description)
    checked = check_dataset(request, request.dataset, contents, None if known is None else known.layout)
    lineage = {**model.lineage, "dataset": dataset.id}
    inputs = model.uploads | {dataset.id}
    warnings = (*said, *checked.warnings)
    return Accepted(request, model, checked.samples, inputs, lineage, warnings, dataset.id, contents)


def submit(services: Services, request: JobRequest, also: Callable[[Session, Job], None]) -> Job:
    """Create the job; call `waking.wake` afterwards. `also` writes in its transaction. Raises what `check` does, and EXPIRED."""
    accepted = check(services, request)
    with services.database.write() as session:
        hold(session, services, accepted)
        quotas.check_jobs(session, services.tenant, services.settings)
        job = create(session, services, accepted)
        services.note(session, AuditAction.CREATE_JOB, job.id)
        also(session, job)
    return job


def hold(session: Session, services: Services, accepted: Accepted) -> None:
    """Keep its inputs until this transaction ends. Raises EXPIRED if they no longer exist."""
    held = uploads.hold_ready(session, services.tenant, accepted.inputs)
    if not (held and accepted.model.hold(session, services.tenant)):
        raise SecateurError(ErrorCode.EXPIRED, "An input of the job has just expired. Upload it again.")


def create(session: Session, services: Services, accepted: Accepted, sweep: tuple[str, int] | None = None) -> Job:
    """Create the job of an accepted request, optionally of a `sweep` and at that position in it."""
    return jobs.create(
        session,
        services.tenant,
        accepted.request,
        accepted.lineage,
        accepted.warnings,
        needs.of_job(session, accepted.request, accepted.model),
        sweep,
    )


def _hub_lineage(dataset: HubDataset) -> dict[str, str]:
    return {"dataset": f"hf:{dataset.id}", "dataset_revision": dataset.revision}
