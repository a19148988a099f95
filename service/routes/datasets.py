"""Datasets: declare, send, complete, read."""

from functools import partial

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api_schemas.api.resources import DatasetCompletion, DatasetResource, Page, UploadedFile, UploadRequest
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode
from api_schemas.spec.inputs import Columns
from service.core import resources
from service.core.uploads import complete, uploads
from service.dependencies import ToReadUploads, ToWriteModels
from service.openapi.document import LOCATION, RETRY_AFTER, problems
from service.paths import V1
from service.responses.idempotency import CODES, REPLAYED, Key, once
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import FILE_BODY, Cursor, DatasetPath, FilePath, Limit, content_length
from store.access.idempotency import Answer
from store.database.tables import Upload
from store.uploads import uploads as stored

CHECK_RETRY_SECONDS = 2
"""Until somebody asks again for a dataset that is being checked."""

router = APIRouter(prefix="/datasets", tags=["datasets"], route_class=JsonRoute)

_EXAMPLE = {
    "splits": {
        "summary": "Three splits, one shard each",
        "value": {
            "name": "spoken-commands",
            "files": [
                {"name": "train.parquet", "size": 28026768, "sha256": "ab" * 32},
                {"name": "validation.parquet", "size": 9515424, "sha256": "cd" * 32},
                {"name": "test.parquet", "size": 9495103, "sha256": "ef" * 32},
            ],
        },
    }
}


@router.post(
    "",
    operation_id="create_dataset",
    summary="Declare a dataset",
    status_code=201,
    response_model=DatasetResource,
    response_description="An open upload, waiting for its files.",
    responses={
        201: {"headers": LOCATION | REPLAYED},
        **problems(
            *CODES,
            ErrorCode.FILE_TYPE_REFUSED,
            ErrorCode.FILE_NAME_REFUSED,
            ErrorCode.FILE_UNEXPECTED,
            ErrorCode.REQUEST_TOO_LARGE,
            ErrorCode.QUOTA_EXCEEDED,
        ),
    },
    openapi_extra={"requestBody": {"content": {"application/json": {"examples": _EXAMPLE}}}},
)
def create_dataset(services: ToWriteModels, body: UploadRequest, key: Key, request: Request) -> Response:
    """Declares the parquet shards to be uploaded, with their sizes and SHA-256.

    `<split>.parquet` and `<split>-*.parquet` belong to that split. Each row has the input of the model: audio (wav, flac, ogg
    or mp3) or an image (PNG, JPEG, WebP, GIF or BMP) as a struct with `bytes`, a text, or a list of words; and its label: text
    or an id of the ClassLabel feature of `datasets`, a list of labels, or a transcript. Embeddings need no labels.
    """

    def answer(_: Session, upload: Upload) -> Answer:
        resource = resources.dataset(upload, services.settings)
        return Answer(201, {"Location": f"{V1}/datasets/{upload.id}"}, resource.model_dump_json())

    return once(services, request, key, body, partial(uploads.declare, services, "dataset", body), answer)


@router.get("", operation_id="list_datasets", summary="List datasets", responses=problems())
def list_datasets(services: ToReadUploads, cursor: Cursor = None, limit: Limit = 20) -> Page[DatasetResource]:
    """Newest first, including open uploads, without expired and deleted ones."""
    with services.database.read() as session:
        rows = stored.page(session, services.tenant, "dataset", cursor, limit)
        return resources.page(rows, [resources.dataset(row, services.settings) for row in rows.items])


@router.get(
    "/{dataset_id}",
    operation_id="get_dataset",
    summary="Get a dataset",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED),
)
def get_dataset(services: ToReadUploads, dataset_id: DatasetPath) -> DatasetResource:
    """Returns its files and, once complete, its rows by split, labels, columns and, for audio, the duration."""
    return resources.dataset(uploads.get(services, "dataset", dataset_id), services.settings)


@router.delete(
    "/{dataset_id}",
    operation_id="delete_dataset",
    summary="Delete a dataset",
    status_code=204,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.DELETED, ErrorCode.EXPIRED),
)
def delete_dataset(services: ToWriteModels, dataset_id: DatasetPath) -> None:
    """Deletes an upload that was not completed, with everything received so far. For a ready dataset, its files are deleted and
    it returns 410 from then on; 409 while an unfinished job needs it. Checkpoints made from it are kept."""
    uploads.discard(services, "dataset", dataset_id)


@router.put(
    "/{dataset_id}/files/{name}",
    operation_id="upload_dataset_file",
    summary="Upload a file of a dataset",
    openapi_extra=FILE_BODY,
    responses=problems(
        ErrorCode.NOT_FOUND,
        ErrorCode.UPLOAD_CLOSED,
        ErrorCode.DELETED,
        ErrorCode.EXPIRED,
        ErrorCode.STORAGE_FULL,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.FILE_UNEXPECTED,
        ErrorCode.CHECKSUM_MISMATCH,
        ErrorCode.FILE_TYPE_REFUSED,
        ErrorCode.REQUEST_TOO_LARGE,
    ),
)
async def upload_dataset_file(
    services: ToWriteModels, dataset_id: DatasetPath, name: FilePath, request: Request
) -> UploadedFile:
    """The body is the file itself. It is checked while it is received; if anything is wrong, nothing is stored."""
    return await uploads.receive(services, "dataset", dataset_id, name, content_length(request), request.stream())


@router.post(
    "/{dataset_id}/complete",
    operation_id="complete_dataset",
    summary="Check a dataset and make it ready",
    response_description="The dataset is ready.",
    responses={
        202: {
            "model": DatasetResource,
            "description": "The dataset is `checking`. Poll it until it is `ready`, or `open` with an `error`.",
            "headers": LOCATION | RETRY_AFTER,
        },
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.UPLOAD_INCOMPLETE,
            ErrorCode.DELETED,
            ErrorCode.EXPIRED,
            ErrorCode.CONFLICT,
            ErrorCode.DATASET_EMPTY,
            ErrorCode.DATASET_SCHEMA,
            ErrorCode.AUDIO_UNDECODABLE,
            ErrorCode.IMAGE_UNDECODABLE,
        ),
    },
)
async def complete_dataset(
    services: ToWriteModels, dataset_id: DatasetPath, response: Response, request: DatasetCompletion | None = None
) -> DatasetResource:
    """Reads every shard: schema, labels, texts, the header of every clip or image, and a sample of these in full.

    A small dataset is `ready` or rejected in the response; the check of a larger one continues after it. Repeating
    the call waits once more, and changes nothing while the dataset is `checking` or `ready`.
    """
    columns = request.columns if request else Columns()
    # Forty at once are half a second of work: one after another they leave other tenants' requests their turns.
    async with services.long_turns.one(services.tenant):
        upload = await services.in_thread(complete.request_check, services, dataset_id, columns)
    upload = await complete.wait_for_check(services, upload)
    if upload.state is UploadState.CHECKING:
        response.status_code = 202
        response.headers["Location"] = f"{V1}/datasets/{upload.id}"
        response.headers["Retry-After"] = str(CHECK_RETRY_SECONDS)
    return resources.dataset(upload, services.settings)
