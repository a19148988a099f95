"""Where a job's model is, and what is known of it before a worker has fetched it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api_schemas.api.resources import ModelLayout
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.inputs import BucketModel, HubModel, ModelReference, StepModel, UploadedModel
from checkpoints.file_names import checkpoint_names, require_weights
from checkpoints.files.shards import INDEX_NAME, WEIGHTS_NAME
from checkpoints.sizes.shape import ModelShape
from service.core import resources
from service.core.uploads import lost_files
from service.core.uploads.complete import StoredFiles
from service.core.uploads.uploads import require_kept
from service.services import Services
from store.database.tables import JobStep, Upload, UploadFile
from store.files.model_buckets import BucketFolder, parse_buckets
from store.jobs import jobs
from store.uploads import uploads
from store.uploads.inspection.models.folder import check_sizes, describe_model
from store.uploads.uploads import UploadKind


@dataclass(frozen=True)
class KnownModel:
    """`description` as `resources.model_description` makes it."""

    description: Mapping[str, Any]
    weight_file_bytes: int
    """Of the safetensors files as they lie there."""

    @property
    def layout(self) -> ModelLayout:
        return ModelLayout.model_validate(self.description)

    @property
    def shape(self) -> ModelShape:
        return resources.model_shape(dict(self.description))

    @property
    def warnings(self) -> tuple[JobWarning, ...]:
        """What of it is not used, as of an input of a job."""
        found = resources.model_warnings(self.description)
        return tuple(warning.model_copy(update={"pointer": "/model"}) for warning in found)


@dataclass(frozen=True)
class ModelSource:
    """`known` is None where only the worker can look."""

    known: KnownModel | None
    lineage: Mapping[str, str]
    uploads: frozenset[str] = frozenset()
    """That must stay until the job is there."""
    step: StepModel | None = None
    """Likewise."""

    def hold(self, session: Session, tenant: str) -> bool:
        """Whether the step is still there; if so it does not expire before this transaction ends."""
        return self.step is None or jobs.hold_step(session, tenant, self.step.job, self.step.step)


def find(services: Services, reference: ModelReference) -> ModelSource:
    """Raises NOT_FOUND, UPLOAD_INCOMPLETE, DELETED, EXPIRED, ARTIFACT_LOST, NO_CHECKPOINT,
    STORAGE_UNAVAILABLE, or what is wrong with the checkpoint."""
    match reference:
        case UploadedModel():
            upload = ready_upload(services, "model", reference.id)
            lineage = {"model": upload.id, "model_sha256": _weights_sha256(upload.files)}
            sizes = {file.name: file.size for file in upload.files}
            known = KnownModel(upload.description or {}, _weight_bytes(sizes))
            return ModelSource(known, lineage, uploads=frozenset({upload.id}))
        case StepModel():
            return _step(services, reference)
        case BucketModel():
            return _bucket(services, reference)
        case HubModel():
            return ModelSource(None, {"model": f"hf:{reference.id}", "model_revision": reference.revision})


def ready_upload(services: Services, kind: UploadKind, upload_id: str) -> Upload:
    """Raises NOT_FOUND, DELETED, EXPIRED, UPLOAD_INCOMPLETE or ARTIFACT_LOST."""
    with services.database.read() as session:
        upload = uploads.get(session, services.tenant, kind, upload_id)
    pointer = f"/{kind}/id"
    if upload is None:
        item = ErrorItem(pointer=pointer, code=ErrorCode.NOT_FOUND, detail="unknown")
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no {kind} {upload_id}.", (item,))
    require_kept(upload, pointer)
    if upload.state is not UploadState.READY:
        item = ErrorItem(
            pointer=pointer, code=ErrorCode.UPLOAD_INCOMPLETE, detail=f"the {kind} is {upload.state.value}"
        )
        detail = f"{upload_id} is not ready. Upload all its files, then call POST /v1/{kind}s/{upload_id}/complete."
        if upload.state is UploadState.CHECKING:
            detail = (
                f"{upload_id} is still being checked. Submit the job when GET /v1/{kind}s/{upload_id} says `ready`."
            )
        raise SecateurError(ErrorCode.UPLOAD_INCOMPLETE, detail, (item,))
    _require_stored(services, upload, pointer)
    return upload


def _require_stored(services: Services, upload: Upload, pointer: str) -> None:
    """Raises ARTIFACT_LOST. A store that does not answer is waited for by the worker, which then finds out."""
    try:
        gone = services.artifacts.damaged({file.key: file.size for file in upload.files if file.key is not None})
    except SecateurError:
        return
    if gone:
        raise lost_files.lost(gone, f"Otherwise delete {upload.id} and upload it again.", pointer)


def _step(services: Services, reference: StepModel) -> ModelSource:
    with services.database.read() as session:
        job = jobs.get(session, services.tenant, reference.job)
        if job is None:
            raise _refused(ErrorCode.NOT_FOUND, "/model/job", f"There is no job {reference.job}.")
        if job.deleted_at is not None:
            raise _refused(ErrorCode.DELETED, "/model/job", f"Job {reference.job} was deleted.")
        steps = jobs.steps(session, services.tenant, reference.job)
    step = next((row for row in steps if row.step == reference.step and row.downloadable), None)
    if step is None:
        there = ", ".join(str(row.step) for row in steps if row.downloadable) or "none yet"
        detail = f"Job {reference.job} has no checkpoint of step {reference.step}; available steps: {there}."
        raise _refused(ErrorCode.NO_CHECKPOINT, "/model/step", detail)
    if step.expired:
        detail = "The checkpoints of that job have expired and were removed. Run the job again."
        raise _refused(ErrorCode.EXPIRED, "/model/step", detail)
    return ModelSource(_described(services, step), _step_lineage(step), step=reference)


def _described(services: Services, step: JobStep) -> KnownModel:
    chosen = set(checkpoint_names(file.name for file in step.files))
    files = [file for file in step.files if file.name in chosen]
    keys, sizes = {file.name: file.key for file in files}, {file.name: file.size for file in files}
    try:
        checkpoint = describe_model(StoredFiles(services.artifacts, keys, sizes))
    except FileNotFoundError:
        with services.database.read() as session:
            steps = jobs.steps(session, services.tenant, step.job_id)
        if any(row.step == step.step and not row.expired for row in steps):
            gone = services.artifacts.damaged({file.key: file.size for file in files})
            raise lost_files.lost(gone, "Otherwise run that job again.", "/model/step") from None
        detail = "The checkpoint has expired and its files are being removed. Run that job again."
        raise _refused(ErrorCode.EXPIRED, "/model/step", detail) from None
    return KnownModel(resources.model_description(checkpoint), _weight_bytes(sizes))


def _step_lineage(step: JobStep) -> dict[str, str]:
    weights = next(file.sha256 for file in step.files if file.name in (WEIGHTS_NAME, INDEX_NAME))
    return {"model": step.job_id, "model_step": str(step.step), "model_sha256": weights}


def _bucket(services: Services, reference: BucketModel) -> ModelSource:
    folder = BucketFolder(parse_buckets(services.settings.model_buckets), reference)
    require_weights(folder.sizes, f"The folder {reference.prefix} of bucket {reference.bucket}")
    folder = folder.narrowed(checkpoint_names(folder.sizes))
    check_sizes(folder.sizes, services.settings.max_file_bytes, services.settings.max_model_bytes)
    lineage = {"model": f"s3:{reference.bucket}/{reference.prefix}", "model_state": folder.state}
    known = KnownModel(resources.model_description(describe_model(folder)), _weight_bytes(folder.sizes))
    return ModelSource(known, lineage)


def _weight_bytes(sizes: Mapping[str, int]) -> int:
    return sum(size for name, size in sizes.items() if name.endswith(".safetensors"))


def _weights_sha256(files: list[UploadFile]) -> str:
    """Of the one weights file, or of the index that names the shards."""
    return next(file.sha256 for file in files if file.name in (WEIGHTS_NAME, INDEX_NAME))


def _refused(code: ErrorCode, pointer: str, detail: str) -> SecateurError:
    return SecateurError(code, detail, (ErrorItem(pointer=pointer, code=code, detail=detail),))
