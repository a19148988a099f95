"""Files sent in pieces, resumable after an interruption, behind the tus protocol (https://tus.io, 1.0.0).

A request's bytes are stored in pieces of PIECE bytes. While one arrives, the previous one is stored, flushed and recorded.
Whatever ends the request, or this process, its client continues after the last recorded piece, and sends at most two pieces
again. The last piece completes the file: all pieces are read once more, checked like a file that was sent at once, and stored as
one artifact.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from starlette.requests import ClientDisconnect

from api_schemas import ids
from api_schemas.enums import AuditAction
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.core.uploads import lost_files, uploads
from service.services import Services
from store.database.paging import Rows
from store.database.tables import ResumableUpload, UploadFile
from store.uploads import resumable
from store.uploads import uploads as stored
from store.uploads.inspection.incoming_file import IncomingFile
from store.uploads.uploads import UploadKind

PIECE = 2 * 2**20
GLANCED = 64 * 2**20
"""Bytes at the beginning of a file that are judged as they come."""
OPENED_AHEAD = 4
"""Pieces that are being opened while one is read: a bucket takes its time to answer."""
ALGORITHMS = ("sha1", "sha256")
SETTLE_SECONDS = 1.0
_CREATED: dict[UploadKind, AuditAction] = {
    "model": AuditAction.CREATE_MODEL_FILE_UPLOAD,
    "dataset": AuditAction.CREATE_DATASET_FILE_UPLOAD,
}
_running: dict[str, asyncio.Event] = {}
"""Requests of this process that send bytes, by upload; set when they have ended."""


def create(services: Services, kind: UploadKind, upload_id: str, name: str, size: int) -> ResumableUpload:
    """Begin to send a declared file in pieces. Raises what `uploads.expected` does, and CHECKSUM_MISMATCH for another size."""
    declared = uploads.expected(services, kind, upload_id, name)
    if size != declared.size:
        detail = f"Upload-Length is {size}, but {declared.size} bytes were declared for {name}; send the declared file."
        raise SecateurError(ErrorCode.CHECKSUM_MISMATCH, detail)
    with services.database.write() as session:
        row = resumable.create(session, services.tenant, upload_id, name, size)
        services.note(session, _CREATED[kind], upload_id)
        return row


def page(services: Services, kind: UploadKind, upload_id: str, cursor: str | None, limit: int) -> Rows[ResumableUpload]:
    """What was begun for a model or dataset. Raises NOT_FOUND, or DELETED."""
    uploads.get(services, kind, upload_id)
    with services.database.read() as session:
        return resumable.page(session, services.tenant, upload_id, cursor, limit)


def get(services: Services, resumable_id: str) -> ResumableUpload:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        row = resumable.get(session, services.tenant, resumable_id)
    if row is None:
        raise SecateurError(
            ErrorCode.NOT_FOUND, f"There is no upload {resumable_id}; it was completed, cancelled or has expired."
        )
    return row


def expires_at(services: Services, row: ResumableUpload) -> datetime:
    """When what has come is given up at the latest; the model or dataset may end sooner."""
    return row.created_at + timedelta(seconds=services.settings.open_upload_seconds)


def discard(services: Services, resumable_id: str) -> None:
    """Forget what has come. Raises NOT_FOUND."""
    row = get(services, resumable_id)
    with services.database.write() as session:
        if resumable.discard(session, services.tenant, resumable_id):
            services.note(session, AuditAction.DELETE_FILE_UPLOAD, resumable_id)
    services.artifacts.delete_prefix(_prefix(row))


async def receive(
    services: Services,
    resumable_id: str,
    offset: int,
    length: int | None,
    checksum: str | None,
    body: AsyncIterator[bytes],
) -> int:
    """Add a request's body at `offset`; returns the new offset. Of a body that breaks off, what came is kept, unless it has a
    `checksum`.

    Raises NOT_FOUND, UPLOAD_OFFSET, PIECE_CHECKSUM_MISMATCH, REQUEST_TOO_LARGE, and what a whole file deserves. A file that is
    refused is forgotten: it would be refused again.
    """
    await settled(resumable_id)
    ended = _running[resumable_id] = asyncio.Event()
    try:
        row = await services.in_thread(get, services, resumable_id)
        declared = await services.in_thread(uploads.expected, services, kind_of(row), row.upload_id, row.name)
        digest = _checksum(checksum)
        epoch = await services.in_thread(_begin, services, row, offset)
        if length is not None and offset + length > row.size:
            raise _too_much(row)
        taken = _Body(body, row.size - offset, digest)
        try:
            return await _Request(services, row, declared, epoch, offset, taken, digest).receive()
        except SecateurError as error:
            if error.code in _REFUSED:
                await services.in_thread(_forget, services, row)
            raise
    finally:
        ended.set()
        if _running.get(resumable_id) is ended:
            del _running[resumable_id]


async def settled(resumable_id: str) -> None:
    """Wait for a request of this process that is still at it: where its client is gone it ends at once and keeps what came."""
    if running := _running.get(resumable_id):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.wait(), SETTLE_SECONDS)


_REFUSED = (
    ErrorCode.CHECKSUM_MISMATCH,
    ErrorCode.FILE_TYPE_REFUSED,
    ErrorCode.SAFETENSORS_INVALID,
    ErrorCode.WEIGHTS_NOT_FINITE,
    ErrorCode.CONFIG_INVALID,
    ErrorCode.CODE_REFUSED,
    ErrorCode.ARTIFACT_LOST,
)


class _PieceGoneError(Exception):
    """A stored piece is not there any more."""


@dataclass
class _Digest:
    """What `Upload-Checksum` promises of one request's body."""

    running: Any
    wanted: bytes


class _Body:
    """A request's bytes, handed out in pieces; a client that goes away ends it."""

    def __init__(self, chunks: AsyncIterator[bytes], remaining: int, digest: _Digest | None) -> None:
        self._chunks = chunks
        self._rest = b""
        self._digest = digest
        self.remaining = remaining
        """How many bytes the file still needs."""
        self.ended = False
        self.broken = False
        """Its client went away before its end."""
        self.too_long = False

    async def take(self, size: int) -> bytes:
        """At most `size` bytes more; fewer only at the end."""
        taken = bytearray(self._rest)
        while len(taken) < size and not self.ended:
            taken += await self._next()
        self._rest = bytes(taken[size:])
        return bytes(taken[:size])

    async def _next(self) -> bytes:
        try:
            chunk = await anext(self._chunks, None)
        except ClientDisconnect:
            self.broken = True
            chunk = None
        if chunk is None:
            self.ended = True
            return b""
        if len(chunk) > self.remaining:
            self.too_long = self.ended = True
            return b""
        self.remaining -= len(chunk)
        if self._digest is not None:
            self._digest.running.update(chunk)
        return chunk


@dataclass
class _Request:
    """One PATCH."""

    services: Services
    row: ResumableUpload
    declared: UploadFile
    epoch: int
    offset: int
    body: _Body
    digest: _Digest | None
    held: list[tuple[int, int, str]] = field(default_factory=list)
    """Pieces that are stored and not recorded yet: (start, size, key)."""
    storing: asyncio.Task[None] | None = None
    """Of the newest piece. One at a time, so that they are recorded in their order."""
    incoming: IncomingFile | None = None
    """Judges what comes while it is the beginning of the file."""
    noted: bool = False
    """The audit log knows of this request."""

    async def receive(self) -> int:
        """Take the body piece by piece; returns the new offset."""
        came = self.offset
        if came == 0:
            self.incoming = IncomingFile(self.row.name, self.row.size, self.services.settings.max_json_bytes)
        try:
            while came < self.row.size and (data := await self.body.take(PIECE)):
                self._glance_at(data, came)
                await self._stored()
                self.storing = asyncio.create_task(self._store(came, data))
                came += len(data)
            await self._stored()
            await self._check_end()
            if self.held and self.offset < self.row.size:
                await self.services.in_thread(self._record)
            if self.offset == self.row.size:
                await self._complete()
        except BaseException:
            if self.storing is not None:
                await asyncio.gather(self.storing, return_exceptions=True)
            await self.services.in_thread(self._drop)
            raise
        return self.offset

    def _glance_at(self, data: bytes, start: int) -> None:
        """What the first bytes give away is refused at once, not after hours."""
        if self.incoming is not None:
            self.incoming.feed(data)
            if start + len(data) >= GLANCED:
                self.incoming = None

    async def _store(self, start: int, data: bytes) -> None:
        key = f"{_prefix(self.row)}/{start}-{secrets.token_hex(8)}"
        await self.services.artifacts.put_piece(key, data)
        self.held.append((start, len(data), key))
        self.offset = start + len(data)
        # A checksum is of all the body: nothing counts before it was found right. Nor does the last piece before the whole file.
        if self.digest is None and self.offset < self.row.size:
            await self.services.in_thread(self._record)

    async def _stored(self) -> None:
        """Wait for the newest piece."""
        if self.storing is not None:
            await self.storing
            self.storing = None

    async def _check_end(self) -> None:
        if not self.body.ended:
            # The file is full; a body that goes on is too long, and a checksum covers all of it.
            await self.body.take(1)
        if self.body.too_long:
            raise _too_much(self.row)
        if self.digest is not None and self.digest.running.digest() != self.digest.wanted:
            why = "the connection broke off" if self.body.broken else "its checksum does not match"
            raise SecateurError(ErrorCode.PIECE_CHECKSUM_MISMATCH, f"The chunk was discarded: {why}. Send it again.")

    async def _complete(self) -> None:
        """Keep the file as one that came at once. Its last piece counts only then: what fails can be tried again."""
        recorded = await self.services.in_thread(self._recorded)
        keys = recorded + [key for _, _, key in self.held]
        try:
            await uploads.keep(self.services, kind_of(self.row), self.row.upload_id, self.declared, self._joined(keys))
        except _PieceGoneError:
            if recorded and await self.services.in_thread(self._recorded) == recorded:
                raise lost_files.lost([self.row.name], "Otherwise start the upload of the file again.") from None
            raise _moved_on(self.row) from None
        await self.services.in_thread(self._finish)
        await self.services.in_thread(self.services.artifacts.delete, *keys)
        self.held.clear()

    async def _joined(self, keys: list[str]) -> AsyncIterator[bytes]:
        opened: deque[asyncio.Task[AsyncIterator[bytes]]] = deque()
        left = iter(keys)
        try:
            while True:
                for key in islice(left, OPENED_AHEAD - len(opened)):
                    opened.append(asyncio.create_task(self.services.artifacts.stream(key)))
                if not opened:
                    return
                try:
                    piece = await opened.popleft()
                except FileNotFoundError as error:
                    # Under its own name: who writes what this yields takes an absent file for one of the writing.
                    raise _PieceGoneError from error
                async for chunk in piece:
                    yield chunk
        finally:
            for task in opened:
                task.cancel()
            await asyncio.gather(*opened, return_exceptions=True)

    def _recorded(self) -> list[str]:
        with self.services.database.read() as session:
            return [part.key for part in resumable.parts(session, self.services.tenant, self.row.id)]

    def _record(self) -> None:
        with self.services.database.write() as session:
            if not resumable.append(session, self.services.tenant, self.row.id, self.epoch, self.held):
                raise _moved_on(self.row)
            if not self.noted:
                self.services.note(session, AuditAction.APPEND_TO_FILE_UPLOAD, self.row.id)
        self.noted = True
        self.held.clear()

    def _finish(self) -> None:
        start = self.held[0][0] if self.held else self.row.size
        with self.services.database.write() as session:
            resumable.finish(session, self.services.tenant, self.row.id, self.epoch, start, self.row.size)

    def _drop(self) -> None:
        self.services.artifacts.delete(*(key for _, _, key in self.held))


def kind_of(row: ResumableUpload) -> UploadKind:
    """Of the upload that the file belongs to."""
    return "model" if row.upload_id.startswith(ids.MODEL) else "dataset"


def _begin(services: Services, row: ResumableUpload, offset: int) -> int:
    with services.database.write() as session:
        epoch = resumable.begin(session, services.tenant, row.id, offset)
    if epoch is None:
        now = get(services, row.id).offset
        detail = f"{now} bytes of {row.name} are stored, but Upload-Offset is {offset}. Continue at {now}."
        raise SecateurError(ErrorCode.UPLOAD_OFFSET, detail)
    return epoch


def _forget(services: Services, row: ResumableUpload) -> None:
    with services.database.write() as session:
        resumable.discard(session, services.tenant, row.id)
    services.artifacts.delete_prefix(_prefix(row))


def _prefix(row: ResumableUpload) -> str:
    return f"{stored.artifact_prefix(row.upload_id)}/{row.id}"


def _checksum(header: str | None) -> _Digest | None:
    if header is None:
        return None
    name, _, encoded = header.partition(" ")
    try:
        wanted = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        wanted = b""
    if name not in ALGORITHMS or len(wanted) != hashlib.new(name).digest_size:
        detail = f"Upload-Checksum must be an algorithm ({', '.join(ALGORITHMS)}), a space, and the checksum in base64."
        item = ErrorItem.at("header", "upload-checksum", code=ErrorCode.INVALID_REQUEST, detail=detail)
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))
    return _Digest(hashlib.new(name), wanted)


def _too_much(row: ResumableUpload) -> SecateurError:
    return SecateurError(
        ErrorCode.REQUEST_TOO_LARGE, f"{row.name} was declared with {row.size} bytes, but more were sent."
    )


def _moved_on(row: ResumableUpload) -> SecateurError:
    return SecateurError(
        ErrorCode.UPLOAD_OFFSET, f"Another request is sending {row.name}; send HEAD to get the current offset."
    )
