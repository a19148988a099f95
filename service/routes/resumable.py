"""Resumable uploads: tus 1.0.0 with creation, checksum, expiration and termination (https://tus.io/protocols/resumable-upload)."""

import base64
import binascii
from collections.abc import Callable, Coroutine
from datetime import UTC
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.exceptions import RequestValidationError

from api_schemas.api.resources import Page, ResumableFile
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.access.turns import FairRoute
from service.core import resources
from service.core.uploads import resumable
from service.dependencies import ToReadUploads, ToWriteModels
from service.middleware.head import STATE_KEY
from service.openapi.document import LOCATION, TUS_RESUMABLE, UPLOAD_EXPIRES, UPLOAD_OFFSET, problems
from service.paths import V1
from service.problems import answer_to
from service.routes.parameters import FILE_BODY, Cursor, DatasetPath, Limit, ModelPath, ResumablePath, content_length
from service.services import Services
from store.database.tables import ResumableUpload
from store.uploads.uploads import UploadKind

VERSION = "1.0.0"
EXTENSIONS = "creation,checksum,expiration,termination"
MEDIA_TYPE = "application/offset+octet-stream"
_SPOKEN: dict[str, Any] = {
    "parameters": [
        {
            "name": "Tus-Resumable",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "enum": [VERSION]},
            "description": "The protocol version.",
        }
    ]
}
_STANDING = TUS_RESUMABLE | UPLOAD_OFFSET | UPLOAD_EXPIRES
_PIECE_BODY: dict[str, Any] = {
    "requestBody": {
        **FILE_BODY["requestBody"],
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class TusRoute(FairRoute):
    """Speaks the protocol's version: asks for it, and says it in every answer, refusals included."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                # Anybody may look with a plain GET; a client of the protocol asks with HEAD.
                looks = request.method == "GET" and not getattr(request.state, STATE_KEY, False)
                if not looks and request.method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
                    said = request.headers.get("tus-resumable", "nothing")
                    raise SecateurError(
                        ErrorCode.TUS_VERSION, f"Tus-Resumable is {said[:32]!r}, but this server supports {VERSION}."
                    )
                response = await original(request)
            except (SecateurError, RequestValidationError) as error:
                response = await answer_to(request, error)
            response.headers["Tus-Resumable"] = VERSION
            if response.status_code == 412:
                response.headers["Tus-Version"] = VERSION
            return response

        return handler


router = APIRouter(tags=["resumable uploads"], route_class=TusRoute)

UploadLength = Annotated[int, Header(ge=0, le=2**53, description="Size of the file, as declared.")]
UploadMetadata = Annotated[
    str,
    Header(
        max_length=4096,
        description="`filename` and the declared name in base64; more pairs may follow, comma-separated.",
    ),
]
_CREATE_PROBLEMS = problems(
    ErrorCode.NOT_FOUND,
    ErrorCode.UPLOAD_CLOSED,
    ErrorCode.EXPIRED,
    ErrorCode.FILE_UNEXPECTED,
    ErrorCode.CHECKSUM_MISMATCH,
    ErrorCode.TUS_VERSION,
)


_LIST_PROBLEMS = problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.TUS_VERSION)


@router.options(
    "/uploads",
    operation_id="get_resumable_protocol",
    summary="Get the supported tus features",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "In `Tus-Version`, `Tus-Extension`, `Tus-Max-Size` and `Tus-Checksum-Algorithm`."},
        **problems(),
    },
)
def get_protocol(services: ToWriteModels) -> Response:
    """For clients that ask before they start."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(services.settings.max_file_bytes),
            "Tus-Checksum-Algorithm": ",".join(resumable.ALGORITHMS),
        },
    )


@router.post(
    "/models/{model_id}/uploads",
    operation_id="create_model_file_upload",
    summary="Start a resumable upload of a model file",
    status_code=201,
    openapi_extra=_SPOKEN,
    responses={201: {"headers": LOCATION | _STANDING}, **_CREATE_PROBLEMS},
)
def create_for_model(
    services: ToWriteModels,
    model_id: ModelPath,
    upload_length: UploadLength,
    upload_metadata: UploadMetadata,
    response: Response,
) -> ResumableFile:
    """The endpoint for tus clients. The file must have been declared; send its bytes to `Location`."""
    return _created(services, "model", model_id, upload_length, upload_metadata, response)


@router.post(
    "/datasets/{dataset_id}/uploads",
    operation_id="create_dataset_file_upload",
    summary="Start a resumable upload of a dataset file",
    status_code=201,
    openapi_extra=_SPOKEN,
    responses={201: {"headers": LOCATION | _STANDING}, **_CREATE_PROBLEMS},
)
def create_for_dataset(
    services: ToWriteModels,
    dataset_id: DatasetPath,
    upload_length: UploadLength,
    upload_metadata: UploadMetadata,
    response: Response,
) -> ResumableFile:
    """The endpoint for tus clients. The file must have been declared; send its bytes to `Location`."""
    return _created(services, "dataset", dataset_id, upload_length, upload_metadata, response)


@router.get(
    "/models/{model_id}/uploads",
    operation_id="list_model_file_uploads",
    summary="List resumable uploads of a model",
    responses={200: {"headers": TUS_RESUMABLE}, **_LIST_PROBLEMS},
)
def list_for_model(
    services: ToReadUploads, model_id: ModelPath, cursor: Cursor = None, limit: Limit = 20
) -> Page[ResumableFile]:
    """Newest first. A client that was restarted can find its uploads here and resume them."""
    return _begun(services, "model", model_id, cursor, limit)


@router.get(
    "/datasets/{dataset_id}/uploads",
    operation_id="list_dataset_file_uploads",
    summary="List resumable uploads of a dataset",
    responses={200: {"headers": TUS_RESUMABLE}, **_LIST_PROBLEMS},
)
def list_for_dataset(
    services: ToReadUploads, dataset_id: DatasetPath, cursor: Cursor = None, limit: Limit = 20
) -> Page[ResumableFile]:
    """Newest first. A client that was restarted can find its uploads here and resume them."""
    return _begun(services, "dataset", dataset_id, cursor, limit)


@router.get(
    "/uploads/{upload_id}",
    operation_id="get_file_upload",
    summary="Get the offset of a file upload",
    responses={200: {"headers": _STANDING}, **problems(ErrorCode.NOT_FOUND, ErrorCode.TUS_VERSION)},
)
async def get_upload(services: ToReadUploads, upload_id: ResumablePath, response: Response) -> ResumableFile:
    """HEAD, as used by tus clients, returns the same headers. A fully received upload is kept until the model or dataset
    is complete."""
    await resumable.settled(upload_id)
    row = await services.in_thread(resumable.get, services, upload_id)
    response.headers.update({**_headers(services, row), "Upload-Length": str(row.size), "Cache-Control": "no-store"})
    return resources.resumable_file(row, resumable.expires_at(services, row))


@router.patch(
    "/uploads/{upload_id}",
    operation_id="append_to_file_upload",
    summary="Append bytes to a file",
    status_code=204,
    response_class=Response,
    openapi_extra=_SPOKEN | _PIECE_BODY,
    responses={
        204: {"description": "Stored.", "headers": _STANDING},
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.UPLOAD_OFFSET,
            ErrorCode.UPLOAD_CLOSED,
            ErrorCode.EXPIRED,
            ErrorCode.ARTIFACT_LOST,
            ErrorCode.TUS_VERSION,
            ErrorCode.MEDIA_TYPE_REFUSED,
            ErrorCode.PIECE_CHECKSUM_MISMATCH,
            ErrorCode.CHECKSUM_MISMATCH,
            ErrorCode.FILE_UNEXPECTED,
            ErrorCode.FILE_TYPE_REFUSED,
            ErrorCode.SAFETENSORS_INVALID,
            ErrorCode.CONFIG_INVALID,
            ErrorCode.CODE_REFUSED,
            ErrorCode.REQUEST_TOO_LARGE,
            ErrorCode.STORAGE_FULL,
            ErrorCode.STORAGE_UNAVAILABLE,
        ),
    },
)
async def append(
    services: ToWriteModels,
    upload_id: ResumablePath,
    request: Request,
    upload_offset: Annotated[int, Header(ge=0, le=2**53, description="Offset of these bytes, as returned by HEAD.")],
    upload_checksum: Annotated[
        str | None,
        Header(max_length=256, description="`sha1` or `sha256`, a space, and the body's checksum in base64."),
    ] = None,
) -> Response:
    """If the connection breaks, the bytes received so far are kept; get the offset with HEAD and continue. With the last byte
    the whole file is checked; if anything is wrong with it, all of it is discarded."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != MEDIA_TYPE:
        raise SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, f"Send the bytes with `Content-Type: {MEDIA_TYPE}`.")
    length = content_length(request)
    row = await services.in_thread(resumable.get, services, upload_id)
    row.offset = await resumable.receive(services, upload_id, upload_offset, length, upload_checksum, request.stream())
    return Response(status_code=204, headers=_headers(services, row))


@router.delete(
    "/uploads/{upload_id}",
    operation_id="delete_file_upload",
    summary="Discard a file upload",
    status_code=204,
    openapi_extra=_SPOKEN,
    responses={204: {"headers": TUS_RESUMABLE}, **problems(ErrorCode.NOT_FOUND, ErrorCode.TUS_VERSION)},
)
def delete_upload(services: ToWriteModels, upload_id: ResumablePath) -> None:
    """The model or dataset is kept, and the file can be uploaded again. A fully received file is kept, too."""
    resumable.discard(services, upload_id)


def _created(
    services: Services, kind: UploadKind, upload_id: str, length: int, metadata: str, response: Response
) -> ResumableFile:
    row = resumable.create(services, kind, upload_id, _file_name(metadata), length)
    response.headers["Location"] = f"{V1}/uploads/{row.id}"
    response.headers.update(_headers(services, row))
    return resources.resumable_file(row, resumable.expires_at(services, row))


def _begun(services: Services, kind: UploadKind, upload_id: str, cursor: str | None, limit: int) -> Page[ResumableFile]:
    rows = resumable.page(services, kind, upload_id, cursor, limit)
    return resources.page(
        rows, [resources.resumable_file(row, resumable.expires_at(services, row)) for row in rows.items]
    )


def _headers(services: Services, row: ResumableUpload) -> dict[str, str]:
    expires = format_datetime(resumable.expires_at(services, row).astimezone(UTC), usegmt=True)
    return {"Upload-Offset": str(row.offset), "Upload-Expires": expires}


def _file_name(metadata: str) -> str:
    """The value of `filename`."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            try:
                name = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                break
            if name:
                return name
    detail = "Upload-Metadata needs `filename` and the declared name of the file in base64."
    item = ErrorItem.at("header", "upload-metadata", code=ErrorCode.INVALID_REQUEST, detail=detail)
    raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))
