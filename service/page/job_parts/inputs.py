"""What a job was made from, in words and as links: its model and its data."""

from dataclasses import dataclass

from api_schemas.api.resources import JobResource
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import BucketModel, StepModel, UploadedDataset, UploadedModel
from service.core.uploads import uploads
from service.services import Services
from store.uploads.uploads import UploadKind

_GONE = (ErrorCode.NOT_FOUND, ErrorCode.DELETED)


@dataclass(frozen=True)
class Input:
    """`address` is that of its page; None where it has none, or none any more."""

    name: str
    words: str
    address: str | None = None


def inputs_of(services: Services, job: JobResource) -> tuple[Input, Input]:
    """The model and the data."""
    return _model(services, job), _data(services, job)


def _model(services: Services, job: JobResource) -> Input:
    match job.request.model:
        case UploadedModel(id=upload):
            return _uploaded(services, "model", "Model", upload)
        case StepModel(job=other, step=step):
            return Input("Model", f"step {step} of {other}", f"/jobs/{other}/steps/{step}")
        case BucketModel(bucket=bucket, prefix=prefix):
            return Input("Model", f"{prefix} in the bucket {bucket}")
        case hub:
            return Input("Model", f"{hub.id} on Hugging Face")


def _data(services: Services, job: JobResource) -> Input:
    match job.request.dataset:
        case UploadedDataset(id=upload):
            return _uploaded(services, "dataset", "Data", upload)
        case hub:
            return Input("Data", f"{hub.id} on Hugging Face")


def _uploaded(services: Services, kind: UploadKind, name: str, upload_id: str) -> Input:
    try:
        return Input(name, uploads.get(services, kind, upload_id).name or upload_id, f"/{kind}s/{upload_id}")
    except SecateurError as error:
        if error.code not in _GONE:
            raise
        return Input(name, f"{upload_id}, deleted")
