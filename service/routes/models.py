"""Models: declare, send, complete, read."""

from functools import partial

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api_schemas.api.resources import ModelResource, ModelUploadRequest, Page, UploadedFile
from api_schemas.errors import ErrorCode
from service.core import resources
from service.core.uploads import complete, uploads
from service.dependencies import ToReadUploads, ToWriteModels
from service.openapi.document import LOCATION, problems
from service.paths import V1
from service.responses.idempotency import CODES, REPLAYED, Key, once
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import FILE_BODY, Cursor, Limit, ModelFilePath, ModelPath, content_length
from store.access.idempotency import Answer
from store.database.tables import Upload
from store.uploads import uploads as stored

router = APIRouter(prefix="/models", tags=["models"], route_class=JsonRoute)

_EXAMPLE = {
    "ast": {
        "summary": "An Audio Spectrogram Transformer",
        "value": {
            "name": "my-ast",
            "files": [
                {"name": "config.json", "size": 2301, "sha256": "ab" * 32},
                {"name": "preprocessor_config.json", "size": 297, "sha256": "cd" * 32},
                {"name": "model.safetensors", "size": 10962936, "sha256": "ef" * 32},
            ],
        },
    }
}


@router.post(
    "",
    operation_id="create_model",
    summary="Declare a model",
    status_code=201,
    response_model=ModelResource,
    response_description="An open upload, waiting for its files.",
    responses={
        201: {"headers": LOCATION | REPLAYED},
        **problems(
            *CODES,
            ErrorCode.FILE_TYPE_REFUSED,
            ErrorCode.FILE_NAME_REFUSED,
            ErrorCode.FILE_UNEXPECTED,
            ErrorCode.FILE_MISSING,
            ErrorCode.REQUEST_TOO_LARGE,
            ErrorCode.QUOTA_EXCEEDED,
        ),
    },
    openapi_extra={"requestBody": {"content": {"application/json": {"examples": _EXAMPLE}}}},
)
def create_model(services: ToWriteModels, body: ModelUploadRequest, key: Key, request: Request) -> Response:
    """Declares the files to be uploaded, with their sizes and SHA-256.

    A checkpoint is `config.json`, `preprocessor_config.json` and `model.safetensors`, or shards
    `model-0000x-of-0000y.safetensors` with `model.safetensors.index.json`; `README.md` is allowed. You can declare a whole
    folder, each file by its path in it, such as `1_Pooling/config.json`. Files that are not needed are skipped and named in
    `warnings`; upload only those in `files` of the response.
    """

    def answer(_: Session, upload: Upload) -> Answer:
        resource = resources.model(upload, services.settings)
        return Answer(201, {"Location": f"{V1}/models/{upload.id}"}, resource.model_dump_json())

    return once(services, request, key, body, partial(uploads.declare, services, "model", body), answer)


@router.get("", operation_id="list_models", summary="List models", responses=problems())
def list_models(services: ToReadUploads, cursor: Cursor = None, limit: Limit = 20) -> Page[ModelResource]:
    """Newest first, including open uploads, without expired and deleted ones."""
    with services.database.read() as session:
        rows = stored.page(session, services.tenant, "model", cursor, limit)
        return resources.page(rows, [resources.model(row, services.settings) for row in rows.items])


@router.get(
    "/{model_id}",
    operation_id="get_model",
    summary="Get a model",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED),
)
def get_model(services: ToReadUploads, model_id: ModelPath) -> ModelResource:
    """Returns its files and, once complete, its architecture, attention widths, sizes and the maximum sparsity of each
    granularity."""
    return resources.model(uploads.get(services, "model", model_id), services.settings)


@router.delete(
    "/{model_id}",
    operation_id="delete_model",
    summary="Delete a model",
    status_code=204,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.DELETED, ErrorCode.EXPIRED),
)
def delete_model(services: ToWriteModels, model_id: ModelPath) -> None:
    """Deletes an upload that was not completed, with everything received so far. For a ready model, its files are deleted and
    it returns 410 from then on; 409 while an unfinished job needs it. Checkpoints made from it are kept."""
    uploads.discard(services, "model", model_id)


@router.put(
    "/{model_id}/files/{name:path}",
    operation_id="upload_model_file",
    summary="Upload a file of a model",
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
        ErrorCode.SAFETENSORS_INVALID,
        ErrorCode.CONFIG_INVALID,
        ErrorCode.CODE_REFUSED,
        ErrorCode.REQUEST_TOO_LARGE,
    ),
)
async def upload_model_file(
    services: ToWriteModels, model_id: ModelPath, name: ModelFilePath, request: Request
) -> UploadedFile:
    """The body is the file itself. It is checked while it is received; if anything is wrong, nothing is stored.

    A file can be uploaded again until the upload is complete. A slash in its name can be sent as it is or as `%2F`.
    """
    return await uploads.receive(services, "model", model_id, name, content_length(request), request.stream())


@router.post(
    "/{model_id}/complete",
    operation_id="complete_model",
    summary="Check a model and make it ready",
    responses=problems(
        ErrorCode.NOT_FOUND,
        ErrorCode.UPLOAD_INCOMPLETE,
        ErrorCode.DELETED,
        ErrorCode.EXPIRED,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.CONFLICT,
        ErrorCode.FILE_TYPE_REFUSED,
        ErrorCode.FILE_MISSING,
        ErrorCode.FILE_UNEXPECTED,
        ErrorCode.SAFETENSORS_INVALID,
        ErrorCode.CONFIG_INVALID,
        ErrorCode.CODE_REFUSED,
        ErrorCode.ARCHITECTURE_UNSUPPORTED,
        ErrorCode.WEIGHTS_MISMATCH,
    ),
)
async def complete_model(services: ToWriteModels, model_id: ModelPath) -> ModelResource:
    """Reads config and safetensors headers without loading any weights. Repeating it for a ready model changes nothing."""
    # Hundreds of headers of megabytes are seconds of work.
    async with services.long_turns.one(services.tenant):
        upload = await services.in_thread(complete.complete_model, services, model_id)
    return resources.model(upload, services.settings)
