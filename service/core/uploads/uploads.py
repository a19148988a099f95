"""Uploads: declared, sent file by file, then checked as a whole. A file counts once all its bytes have been verified."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ParamSpec

from sqlalchemy.orm import Session

from api_schemas.api.resources import DeclaredFile, UploadedFile, UploadRequest
from api_schemas.enums import AuditAction, UploadState
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.validation_messages import json_pointer
from checkpoints.file_names import is_of_checkpoint
from service.services import Services
from store.access import quotas
from store.database.tables import Upload, UploadFile
from store.jobs import deletion
from store.uploads import uploads
from store.uploads.inspection import dataset_names
from store.uploads.inspection.incoming_file import IncomingFile
from store.uploads.inspection.models import folder as model_folder
from store.uploads.uploads import UploadKind

P = ParamSpec("P")
_DECLARED = {"model": AuditAction.CREATE_MODEL, "dataset": AuditAction.CREATE_DATASET}
_RECEIVED = {"model": AuditAction.UPLOAD_MODEL_FILE, "dataset": AuditAction.UPLOAD_DATASET_FILE}
_DISCARDED = {"model": AuditAction.DELETE_MODEL, "dataset": AuditAction.DELETE_DATASET}
_CHECK_NAMES = {"model": model_folder.check_names, "dataset": dataset_names.check_names}


def declare(
    services: Services, kind: UploadKind, request: UploadRequest, also: Callable[[Session, Upload], None]
) -> Upload:
    """A new upload; `also` writes in its transaction. Raises what the names deserve, or REQUEST_TOO_LARGE, before a byte is
    sent."""
    settings = services.settings
    if len(request.files) > settings.max_files:
        detail = f"{len(request.files)} files are declared; the maximum is {settings.max_files}."
        item = ErrorItem.at("files", code=ErrorCode.REQUEST_TOO_LARGE, detail=detail)
        raise SecateurError(ErrorCode.REQUEST_TOO_LARGE, detail, (item,))
    left_out = [file.name for file in request.files if kind == "model" and not is_of_checkpoint(file.name)]
    for index, file in enumerate(request.files):
        if file.size > settings.max_file_bytes and file.name not in left_out:
            detail = f"{file.name} has {file.size} bytes; the maximum per file is {settings.max_file_bytes}."
            item = ErrorItem(pointer=f"/files/{index}/size", code=ErrorCode.REQUEST_TOO_LARGE, detail=detail)
            raise SecateurError(ErrorCode.REQUEST_TOO_LARGE, detail, (item,))
    try:
        _CHECK_NAMES[kind](file.name for file in request.files)
    except SecateurError as error:
        raise SecateurError(error.code, error.detail, _in_request(error.errors, request)) from None
    files = [file for file in request.files if file.name not in left_out]
    stored = _still_stored(services, kind, files)
    with services.database.write() as session:
        quotas.check_upload(session, services.tenant, settings, sum(file.size for file in files))
        upload = uploads.create(session, services.tenant, kind, request.name, files, stored, left_out)
        services.note(session, _DECLARED[kind], upload.id)
        also(session, upload)
    return upload


def _still_stored(services: Services, kind: UploadKind, files: Sequence[DeclaredFile]) -> frozenset[str]:
    """Keys of the files that were sent before and are still stored. Lost files must be sent again, also if it is unknown."""
    with services.database.read() as session:
        sent = {row.key: row.size for row in uploads.sent_before(session, services.tenant, kind, files)}
    try:
        return frozenset(sent) - frozenset(services.artifacts.damaged(sent))
    except SecateurError:
        return frozenset()


def get(services: Services, kind: UploadKind, upload_id: str) -> Upload:
    """Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        upload = uploads.get(session, services.tenant, kind, upload_id)
    if upload is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no {kind} {upload_id}.")
    if upload.state is UploadState.DELETED:
        require_kept(upload)
    return upload


async def receive(
    services: Services,
    kind: UploadKind,
    upload_id: str,
    name: str,
    content_length: int | None,
    body: AsyncIterator[bytes],
) -> UploadedFile:
    """Take one declared file: checked as it streams through to the artifacts, recorded when all of it was right.

    Where anything is wrong (name, length, sha256, content, a connection that breaks) nothing is stored.
    """
    declared = await services.in_thread(expected, services, kind, upload_id, name)
    if content_length is not None and content_length != declared.size:
        detail = (
            f"Content-Length is {content_length}, but {declared.size} bytes were declared for {name}; send the "
            "declared file."
        )
        raise SecateurError(ErrorCode.CHECKSUM_MISMATCH, detail)
    return await keep(services, kind, upload_id, declared, body)


async def keep(
    services: Services, kind: UploadKind, upload_id: str, declared: UploadFile, chunks: AsyncIterator[bytes]
) -> UploadedFile:
    """Store and record a declared file whose bytes are `chunks`, judged as they pass. Where anything is wrong, nothing."""
    name, size = declared.name, declared.size
    incoming = IncomingFile(name, size, services.settings.max_json_bytes)
    key = uploads.artifact_key(upload_id, name, secrets.token_hex(8))
    await services.artifacts.put_stream(
        key, judged(services, chunks, incoming, size), size=size, sha256=declared.sha256
    )
    try:
        replaced = await services.in_thread(_record, services, kind, upload_id, name, key)
    except BaseException:
        await services.in_thread(services.artifacts.delete, key)
        raise
    if replaced is not None:
        await services.in_thread(_let_go, services, {replaced})
    return UploadedFile(name=name, size=size, sha256=declared.sha256, uploaded=True)


def discard(services: Services, kind: UploadKind, upload_id: str) -> None:
    """Remove an upload: an open one with all it has, of a ready one the files, whose bytes maintenance removes.

    Raises NOT_FOUND, DELETED, EXPIRED, or CONFLICT where a job that has not ended needs it.
    """
    upload = get(services, kind, upload_id)
    require_kept(upload)
    with services.database.write() as session:
        if upload.state is UploadState.READY:
            gone = deletion.delete_ready_upload(session, services.tenant, upload_id)
        else:
            gone = uploads.discard(session, services.tenant, kind, upload_id)
        if not gone:
            raise SecateurError(ErrorCode.CONFLICT, f"{upload_id} has just changed. Fetch it and try again.")
        services.note(session, _DISCARDED[kind], upload_id)
    if upload.state is not UploadState.READY:
        below = {found.key for found in services.artifacts.list(uploads.artifact_prefix(upload_id))}
        _let_go(services, below | {file.key for file in upload.files if file.key is not None})


def require_open(upload: Upload) -> None:
    """Raises UPLOAD_CLOSED, or EXPIRED."""
    require_kept(upload)
    if upload.state is UploadState.CHECKING:
        detail = (
            f"{upload.id} is being checked and cannot be changed. Wait until its state is no longer `checking`, "
            "or delete it."
        )
        raise SecateurError(ErrorCode.UPLOAD_CLOSED, detail)
    if upload.state is not UploadState.OPEN:
        raise SecateurError(
            ErrorCode.UPLOAD_CLOSED, f"{upload.id} is complete and cannot be changed. Start a new upload."
        )


def require_kept(upload: Upload, pointer: str = "") -> None:
    """Raises EXPIRED, or DELETED."""
    if upload.state is UploadState.DELETED:
        item = ErrorItem(pointer=pointer, code=ErrorCode.DELETED, detail="deleted")
        raise SecateurError(ErrorCode.DELETED, f"{upload.id} was deleted. Upload it again.", (item,))
    if upload.state is UploadState.EXPIRED:
        detail = f"{upload.id} has expired and its files were removed. Upload it again."
        raise SecateurError(
            ErrorCode.EXPIRED, detail, (ErrorItem(pointer=pointer, code=ErrorCode.EXPIRED, detail="expired"),)
        )


def require_all_files(upload: Upload) -> None:
    """Raises UPLOAD_INCOMPLETE, naming the files that have not come."""
    missing = [file.name for file in upload.files if file.key is None]
    if missing:
        items = tuple(ErrorItem.at(name, code=ErrorCode.UPLOAD_INCOMPLETE, detail="not uploaded") for name in missing)
        detail = (
            f"{len(missing)} of {len(upload.files)} files have not been uploaded: {', '.join(missing[:10])}. Send "
            "them first."
        )
        raise SecateurError(ErrorCode.UPLOAD_INCOMPLETE, detail, items)


def expected(services: Services, kind: UploadKind, upload_id: str, name: str) -> UploadFile:
    """A file that was declared for an open upload. Raises NOT_FOUND, UPLOAD_CLOSED, EXPIRED or FILE_UNEXPECTED."""
    upload = get(services, kind, upload_id)
    require_open(upload)
    for file in upload.files:
        if file.name == name:
            return file
    if name in (upload.left_out or ()):
        detail = (
            f"{name} is not needed and not stored, see the warnings of {upload_id}. Send only the files that it lists."
        )
        raise SecateurError(ErrorCode.FILE_UNEXPECTED, detail)
    declared = ", ".join(file.name for file in upload.files[:10])
    more = f" and {len(upload.files) - 10} more" if len(upload.files) > 10 else ""
    detail = (
        f"{name!r} was not declared for {upload_id}. Declared files: {declared}{more}. Declare all files when you "
        "create the upload."
    )
    raise SecateurError(ErrorCode.FILE_UNEXPECTED, detail)


def _in_request(items: tuple[ErrorItem, ...], request: UploadRequest) -> tuple[ErrorItem, ...]:
    """What is wrong with names, at the place where each is declared; what is missing, at the list."""
    # Of a name that is declared twice it is the last one that is too many.
    places = {json_pointer((file.name,)): index for index, file in enumerate(request.files)}
    return tuple(
        ErrorItem.at(
            "files",
            *((places[item.pointer], "name") if item.pointer in places else ()),
            code=item.code,
            detail=item.detail,
        )
        for item in items
    )


async def judged(
    services: Services, body: AsyncIterator[bytes], incoming: IncomingFile, size: int
) -> AsyncIterator[bytes]:
    """The chunks of a file of `size` bytes as they come, each judged before it is passed on. Raises what `incoming` does."""
    received = 0
    async for chunk in body:
        received += len(chunk)
        if chunk and received <= size:
            await _beside(services, incoming.parses(len(chunk)), incoming.feed, chunk)
        yield chunk
    if received == size:  # Otherwise the artifacts say what came; half a file is not worth judging.
        await _beside(services, incoming.parses(0), incoming.finish)


async def _beside(services: Services, long: bool, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do it, where it may take long in a thread: a header of megabytes would keep every other request waiting."""
    if long:
        await services.in_thread(work, *args, **kwargs)
    else:
        work(*args, **kwargs)


def _record(services: Services, kind: UploadKind, upload_id: str, name: str, key: str) -> str | None:
    """Returns the key that `key` takes the place of: read here, since the same file may be coming several times at once."""
    with services.database.write() as session:
        replaced = uploads.recorded_key(session, services.tenant, upload_id, name)
        if not uploads.record_file(session, services.tenant, upload_id, name, key):
            detail = f"{upload_id} was completed or deleted while {name} was being sent. Start a new upload."
            raise SecateurError(ErrorCode.UPLOAD_CLOSED, detail)
        services.note(session, _RECEIVED[kind], upload_id)
    return replaced


def _let_go(services: Services, keys: set[str]) -> None:
    """Remove bytes that had a name in an upload, unless they have one in another, too."""
    with services.database.read() as session:
        gone = uploads.unnamed(session, keys)
    for key in gone:
        services.artifacts.delete(key)
