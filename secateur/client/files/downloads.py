"""Downloads a step's files to a folder: resumed where they stopped, checked, and moved into place only when all are correct."""

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path, PurePosixPath

import httpx

from api_schemas.api.resources import CheckpointFile, CheckpointResource
from secateur import errors
from secateur.client.files.digests import Digest, digested
from secateur.client.progress import ProgressCallback, tell
from secateur.client.transport.connection import Connection, hopeless, segment
from secateur.client.transport.problems import error_of

SILENCE = 60.0
_TOLD_EVERY = 2**20


async def download(
    connection: Connection,
    job_id: str,
    checkpoint: CheckpointResource,
    folder: Path,
    progress: ProgressCallback | None = None,
) -> Path:
    """Fetch every file of a step into `folder`, which is made. What is there already, with the right SHA-256, stays.

    Raises ChecksumMismatch, UnexpectedAnswer for names that leave the folder, ConnectionFailed.
    """
    places = [(file, _inside(folder, file.name)) for file in checkpoint.files]
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(file.size for file in checkpoint.files)
    done = 0
    moves: list[tuple[Path, Path]] = []
    address = f"/jobs/{segment(job_id)}/checkpoints/{checkpoint.step}/files"
    for number, (file, place) in enumerate(places):
        if not await _is_whole(connection, place, file):
            part = place.with_name(f".{number}-{file.sha256[:32]}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            await _fetch(connection, f"{address}/{_path(file.name)}", file, part, (done, total, progress))
            moves.append((part, place))
        done += file.size
        tell(progress, "downloading", done, total)
    await connection.backend.work(lambda: _move(moves))
    return folder


def _inside(folder: Path, name: str) -> Path:
    """Where a file goes. Names come from another machine, and could lead out of the folder."""
    parts = PurePosixPath(name).parts
    odd = not parts or name.startswith("/") or any(part in ("..", ".") for part in parts)
    if odd or any(sign in name for sign in "\\:\0") or any(ord(sign) < 32 for sign in name):
        detail = f"The service lists a file {name!r}, which could be outside the output folder. Nothing was downloaded."
        raise errors.UnexpectedAnswer(detail, code="file_name_refused")
    place = folder.joinpath(*parts)
    if not place.resolve().is_relative_to(folder.resolve()):
        raise errors.UnexpectedAnswer(
            f"{place} is a link that leads out of {folder}. Remove the link.", code="file_name_refused"
        )
    return place


def _path(name: str) -> str:
    return "/".join(segment(part) for part in PurePosixPath(name).parts)


async def _is_whole(connection: Connection, place: Path, file: CheckpointFile) -> bool:
    if not place.is_file() or place.stat().st_size != file.size:
        return False
    digest = Digest()
    async for _ in digested(connection.backend, place, digest):
        pass
    return digest.hex == file.sha256


async def _fetch(
    connection: Connection,
    address: str,
    file: CheckpointFile,
    part: Path,
    tally: tuple[int, int, ProgressCallback | None],
) -> None:
    """All of one file in `part`, checked. Failures count only where nothing came between them."""
    digest = Digest()
    # Bytes of an earlier call; whether they are right turns out in the end.
    if part.is_file():
        async for _ in digested(connection.backend, part, digest):
            pass
    kept = digest.size
    failures = 0
    while digest.size < file.size or not part.is_file():
        before = digest.size
        try:
            digest = await _more(connection, address, file, part, digest, tally)
        except (httpx.TransportError, errors.Unavailable, errors.RateLimited) as error:
            digest = await _again(connection, part)
            failures = 1 if digest.size > before else failures + 1
            failed = connection.unreachable("GET", address, error) if isinstance(error, httpx.TransportError) else error
            if failures > connection.retries or (isinstance(error, httpx.TransportError) and hopeless(error)):
                raise failed from error
            await connection.pause(failed, failures - 1, connection.retries)
        else:
            if digest.size <= before:
                break
    if (digest.size, digest.hex) == (file.size, file.sha256):
        return
    part.unlink()
    if kept:
        # What lay there was something else: once more from the start.
        await _fetch(connection, address, file, part, tally)
        return
    detail = f"The SHA-256 of {file.name} is wrong after the download. The file was discarded; download it again."
    raise errors.ChecksumMismatch(detail, code="checksum_mismatch")


async def _again(connection: Connection, part: Path) -> Digest:
    """Of what the disk has."""
    digest = Digest()
    if part.is_file():
        async for _ in digested(connection.backend, part, digest):
            pass
    return digest


async def _more(
    connection: Connection,
    address: str,
    file: CheckpointFile,
    part: Path,
    digest: Digest,
    tally: tuple[int, int, ProgressCallback | None],
) -> Digest:
    """One request for what is missing. Returns the digest of what is there then."""
    backend, (done, total, progress) = connection.backend, tally
    headers = {"Accept-Encoding": "identity"}
    if digest.size:
        headers |= {"Range": f"bytes={digest.size}-", "If-Range": f'"{file.sha256}"'}
    response = await connection.open("GET", address, headers=headers, patience=SILENCE)
    try:
        if response.status_code >= 300:
            await backend.read(response)
            raise error_of(response)
        going_on = response.status_code == 206 and response.headers.get("content-range", "").startswith(
            f"bytes {digest.size}-"
        )
        if not going_on:
            digest = Digest()
        with part.open("ab" if going_on else "wb") as out:
            told = digest.size
            async with aclosing(backend.chunks(response)) as chunks:
                async for chunk in chunks:
                    # Never more than was announced: the rest would only fill the disk.
                    data = chunk[: file.size - digest.size + 1]
                    await backend.work(lambda data=data: out.write(data))  # type: ignore[misc]
                    digest.update(data)
                    if digest.size - told >= _TOLD_EVERY:
                        told = digest.size
                        tell(progress, "downloading", done + told, total)
                    if digest.size > file.size:
                        break
    finally:
        await backend.close(response)
    return digest


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    for part, place in moves:
        part.replace(place)
