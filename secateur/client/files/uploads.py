"""Uploads files of any size to the service: declared by SHA-256, sent in checked pieces (tus 1.0.0), completed.

The client stores no state. The service says what it has of an upload: a second call with the same files finds the upload that the
first left open, and sends what is missing.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from api_schemas.api.resources import DatasetResource, ModelResource, ResumableFile
from api_schemas.enums import UploadState
from secateur import errors
from secateur.client.files.digests import Digest, digested
from secateur.client.progress import ProgressCallback, tell
from secateur.client.transport.connection import Connection, delay, segment
from secateur.client.transport.problems import refusal

PIECE = 16 * 2**20
"""Bytes of one request: what a broken connection costs at most, and what is in memory."""
SLOWEST = 2**22
"""Bytes a second: with the last piece the service reads the whole file once more, and answers after that."""
CHECK_SECONDS = 3600.0
"""The longest wait for what `complete` began: every shard of a dataset is read, once its turn has come."""
LONGEST_LOOK = 5.0
"""Seconds between two looks at it."""
_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE_TYPE = "application/offset+octet-stream"

Kind = Literal["models", "datasets"]
R = TypeVar("R", ModelResource, DatasetResource)


@dataclass(frozen=True)
class LocalFile:
    """A file and what it is called in the upload."""

    name: str
    path: Path


@dataclass(frozen=True)
class _Sent:
    """A file with what it is declared by."""

    name: str
    path: Path
    size: int
    sha256: str


async def upload(
    connection: Connection,
    kind: Kind,
    as_: type[R],
    name: str | None,
    files: Sequence[LocalFile],
    completion: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> R:
    """Declare, send, complete. Returns it ready for jobs.

    Raises what the service refuses, ChecksumMismatch where a file changed meanwhile, ConnectionFailed.
    """
    sent = await _hashed(connection, files, progress)
    begun = found = await _begun(connection, kind, as_, sent)
    if found is None:
        declared = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in sent]
        body = {"files": declared, **({"name": name[:128]} if name else {})}
        found = await connection.post(as_, f"/{kind}", body, key=True)
    # A service of another version may need fewer of them, and says so in its warnings.
    needed = {file.name for file in found.files}
    sent = [file for file in sent if file.name in needed]
    known = {file.name for file in found.files if file.uploaded}
    total = sum(file.size for file in sent)
    done = sum(file.size for file in sent if file.name in known)
    tell(progress, "uploading", done, total)
    where = f"/{kind}/{segment(found.id)}"
    try:
        for file in sent:
            if file.name not in known:
                place = None if begun is None else await _left(connection, where, file)
                await _send(connection, where, file, place, done, total, progress)
                done += file.size
        tell(progress, "checking", 0, len(sent), "files")
        ready = await connection.post(as_, f"{where}/complete", completion, patience=CHECK_SECONDS)
        ready = await _checked(connection, as_, where, ready)
    except errors.Conflict as error:
        # Another call with the same files may have finished it.
        ready = await connection.get(as_, where)
        if error.code not in ("upload_closed", "conflict") or ready.state is not UploadState.READY:
            raise
    tell(progress, "checking", len(sent), len(sent), "files")
    return ready


async def _checked(connection: Connection, as_: type[R], where: str, found: R) -> R:
    """The upload when its check has ended. Raises what is wrong with it, or Unavailable after CHECK_SECONDS."""
    waited, looks = 0.0, 0
    while found.state is UploadState.CHECKING:
        if waited > CHECK_SECONDS:
            detail = (
                f"The check of {found.id} has not ended after {waited:.0f} seconds. It continues; look again later."
            )
            raise errors.Unavailable(detail, code="still_checking")
        pause = min(LONGEST_LOOK, delay(looks))
        await connection.backend.sleep(pause)
        waited, looks = waited + pause, looks + 1
        found = await connection.get(as_, where)
    if isinstance(found, DatasetResource) and found.state is UploadState.OPEN and found.error is not None:
        raise refusal(found.error)
    return found


async def _hashed(connection: Connection, files: Sequence[LocalFile], progress: ProgressCallback | None) -> list[_Sent]:
    total = sum(file.path.stat().st_size for file in files)
    done, found = 0, []
    for file in files:
        digest = Digest()
        async for taken in digested(connection.backend, file.path, digest):
            done += taken
            tell(progress, "hashing", done, total)
        found.append(_Sent(file.name, file.path, digest.size, digest.hex))
    return found


async def _begun(connection: Connection, kind: Kind, as_: type[R], files: Sequence[_Sent]) -> R | None:
    """The newest upload of these very files that was left open, among the hundred newest."""
    wanted = {(file.name, file.size, file.sha256) for file in files}
    seen = 0
    pages = connection.pages(as_, f"/{kind}")
    try:
        async for found in pages:
            seen += 1
            declared = {(file.name, file.size, file.sha256) for file in found.files}
            if found.state is UploadState.OPEN and declared == wanted:
                return found
            if seen == 100:
                break
    finally:
        await pages.aclose()
    return None


async def _send(
    connection: Connection,
    where: str,
    file: _Sent,
    place: str | None,
    before: int,
    total: int,
    progress: ProgressCallback | None,
) -> None:
    """One file, to `place` if there is one already. After a failure the service is asked how far it has come; so many failures
    in a row as there are retries are too many."""
    offset: int | None = None
    failures = 0
    while True:
        try:
            if place is None:
                place, offset = await _create(connection, where, file), 0
            elif offset is None:
                answer = await connection.call("HEAD", place, headers=_TUS)
                offset = int(answer.headers["upload-offset"])
                if offset == file.size:
                    return
            offset = await _piece(connection, place, file, offset)
            failures = 0
            tell(progress, "uploading", before + offset, total)
            if offset == file.size:
                return
        except (
            errors.ConnectionFailed,
            errors.Unavailable,
            errors.Conflict,
            errors.NotFound,
            errors.ChecksumMismatch,
        ) as error:
            failures, offset = failures + 1, None
            if failures > connection.retries or error.code in (
                "upload_closed",
                "checksum_mismatch",
                "deleted",
                "expired",
            ):
                raise
            if isinstance(error, errors.NotFound):
                # What had come was given up; a model that is gone itself is said by the next request.
                place = None
            await connection.pause(error, failures - 1, connection.retries)


async def _left(connection: Connection, where: str, file: _Sent) -> str | None:
    """The path of the file's pieces that an earlier call left, if there is one that has the most of them."""
    pages = connection.pages(ResumableFile, f"{where}/uploads")
    found = [each async for each in pages if each.name == file.name and each.offset < each.size]
    best = max(found, key=lambda each: each.offset, default=None)
    return None if best is None else f"/uploads/{segment(best.id)}"


async def _create(connection: Connection, where: str, file: _Sent) -> str:
    """The path where the file's pieces go."""
    encoded = base64.b64encode(file.name.encode()).decode()
    headers = {**_TUS, "Upload-Length": str(file.size), "Upload-Metadata": f"filename {encoded}"}
    answer = await connection.call("POST", f"{where}/uploads", headers=headers)
    return f"/uploads/{segment(answer.json()['id'])}"


async def _piece(connection: Connection, place: str, file: _Sent, offset: int) -> int:
    """Send what follows `offset`; returns the new one."""
    data = await connection.backend.work(lambda: _read(file.path, offset))
    if not data and offset < file.size:
        detail = f"{file.path} became shorter while it was being sent. Upload it again."
        raise errors.ChecksumMismatch(detail, code="checksum_mismatch")
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {
        **_TUS,
        "Content-Type": _PIECE_TYPE,
        "Upload-Offset": str(offset),
        "Upload-Checksum": f"sha256 {checksum}",
    }
    patience = 120 + file.size / SLOWEST
    # Not repeated blindly: the first try may have been kept.
    answer = await connection.call("PATCH", place, content=data, headers=headers, once=True, patience=patience)
    return int(answer.headers["upload-offset"])


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)
