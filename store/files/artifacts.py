"""Artifacts: every byte of uploads and results, in a local folder (`file://`) or a bucket (`s3://`, `az://`, `gs://`), through
obstore.

An object appears completely or not at all. Objects never change: new content gets a new key. Local files are flushed to disk
before a write returns, so a row never references bytes that were lost.
"""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from api_schemas.errors import ErrorCode, SecateurError

log = logging.getLogger(__name__)

CHUNK = 2**20
PART = 8 * 2**20  # Of a multipart upload; S3 allows 10 000 parts of at least 5 MiB.
# Four parts at a time are what an upload may hold in memory, whatever its size.
_PARTS: Any = {"chunk_size": PART, "max_concurrency": 4}
DELETED, LOCAL_DELETED = 1000, 1
"""Objects of one deletion; S3 takes a thousand."""
LOOKS_AT_ONCE = 16
RETRY_TIMEOUT = timedelta(seconds=60)
# In what obstore says: Rust's names of ENOSPC and EDQUOT and the texts of the two; MinIO and Ceph use the names, too.
FULL = ("StorageFull", "QuotaExceeded", "No space left on device", "quota exceeded")
# Keys are ours: identifiers, numbers and checked file names.
KEY = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class Stored:
    """What was written."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Found:
    """An object of a listing."""

    key: str
    size: int
    written_at: datetime


@contextmanager
def _said_plainly(*kinds: type[Exception], writing: bool = False) -> Iterator[None]:
    """What a store refuses, as STORAGE_FULL or STORAGE_UNAVAILABLE; an absent object stays a FileNotFoundError.

    `kinds` are the exceptions that the store is known by. Where it is `writing`, what is absent is the store itself. Its
    own words name hosts and paths: they are for the operator's log.
    """
    try:
        yield
    except tuple(kinds or (BaseError, OSError)) as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        log.error("the artifact store failed: %s", error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(error) for sign in FULL):
            raise SecateurError(ErrorCode.STORAGE_FULL, "The artifact store is full.") from error
        detail = "The artifact store does not respond, or refused the request."
        raise SecateurError(ErrorCode.STORAGE_UNAVAILABLE, detail) from error


class Artifacts:
    """One store. Safe to share between threads and event loops.

    Every method raises STORAGE_FULL or STORAGE_UNAVAILABLE where the store does not do its work.
    """

    def __init__(self, url: str) -> None:
        # A bucket that refuses is to say so while a request waits; who can wait longer tries again
        # (worker/lease/retries.py).
        options: dict[str, Any] = {"retry_config": {"max_retries": 5, "retry_timeout": RETRY_TIMEOUT}}
        if url.startswith("file:"):
            options = {"mkdir": True, "automatic_cleanup": True}
        self._store = from_url(url, **options)
        self._root = self._store.prefix if isinstance(self._store, LocalStore) else None

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int, sha256: str) -> Stored:
        """Store `chunks` under `key` as they come, never holding more than a few of them.

        Raises CHECKSUM_MISMATCH where they are not `size` bytes with that sha256 (hex); whatever `chunks` raises is
        raised on. In either case nothing is stored.
        """
        # Not OSError: `chunks` raises those, too, when its client goes away.
        with _said_plainly(BaseError, FileNotFoundError, PermissionError, writing=True):
            await obstore.put_async(self._store, _checked(key), _verified(chunks, size, sha256), **_PARTS)
        with _said_plainly():
            await asyncio.to_thread(self._flush, key)
        return Stored(key, size, sha256)

    async def put_piece(self, key: str, data: bytes) -> None:
        """Store a few bytes that are all there."""
        with _said_plainly(BaseError, FileNotFoundError, PermissionError, writing=True):
            await obstore.put_async(self._store, _checked(key), data, use_multipart=False)
        with _said_plainly():
            await asyncio.to_thread(self._flush, key)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store what is small."""
        with _said_plainly(writing=True):
            obstore.put(self._store, _checked(key), data)
            self._flush(key)

    def put_file(self, key: str, path: Path) -> Stored:
        """Store a local file; hashes what it reads."""
        digest = hashlib.sha256()
        size = 0

        def blocks() -> Iterator[bytes]:
            nonlocal size
            with path.open("rb") as file:
                while block := file.read(CHUNK):
                    digest.update(block)
                    size += len(block)
                    yield block

        with _said_plainly(writing=True):
            obstore.put(self._store, _checked(key), blocks(), **_PARTS)
            self._flush(key)
        return Stored(key, size, digest.hexdigest())

    def size(self, key: str) -> int:
        """In bytes. Raises FileNotFoundError."""
        with _said_plainly():
            return int(obstore.head(self._store, _checked(key))["size"])

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def whole(self, files: Mapping[str, int]) -> bool:
        """Whether all these objects, sizes by key, are there in their size."""
        return not self.damaged(files)

    def damaged(self, files: Mapping[str, int]) -> list[str]:
        """Keys of those objects, sizes by key, that are not there, or not in their size."""
        with ThreadPoolExecutor(min(LOOKS_AT_ONCE, len(files)) or 1) as pool:
            sizes = dict(zip(files, pool.map(self._size_or_none, files), strict=True))
        return [key for key, size in files.items() if sizes[key] != size]

    def _size_or_none(self, key: str) -> int | None:
        try:
            return self.size(key)
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int = 0, end: int | None = None, size: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end) in chunks; to the end of the object by default. Raises FileNotFoundError at once, with `size` also
        where the object has another."""
        if end is not None and end <= start:
            return iter(())
        with _said_plainly():
            try:
                result = obstore.get(self._store, _checked(key), options=_options(start, end))
            except BaseError:
                # One that ends before the range begins is refused for that.
                if size is not None and self.size(key) != size:
                    raise FileNotFoundError(key) from None
                raise
        if size is not None and result.meta["size"] != size:
            raise FileNotFoundError(key)
        return _chunks(result)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The same for an event loop: `async for chunk in await artifacts.stream(key)`."""
        if end is not None and end <= start:
            return _nothing()
        with _said_plainly():
            result = await obstore.get_async(self._store, _checked(key), options=_options(start, end))
        return _async_chunks(result)

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """Copy an object to a local file. Raises FileNotFoundError, or CHECKSUM_MISMATCH where its bytes changed."""
        digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in self.read(key):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            path.unlink()
            raise SecateurError(
                ErrorCode.CHECKSUM_MISMATCH, f"The stored file {path.name} has changed since it was uploaded."
            )

    def list(self, prefix: str) -> Iterator[Found]:
        """Objects below `prefix/`, as they come."""
        with _said_plainly():
            for batch in obstore.list(self._store, _checked(prefix)):
                yield from (Found(item["path"], item["size"], item["last_modified"]) for item in batch)

    def delete(self, *keys: str) -> None:
        """Remove objects, those of a bucket many at a time; nothing happens where there is none."""
        # A local folder has no deletion of many, and one that is not there would end it.
        at_once = LOCAL_DELETED if self._root is not None else DELETED
        for start in range(0, len(keys), at_once):
            with _said_plainly(), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, [_checked(key) for key in keys[start : start + at_once]])

    def delete_prefix(self, prefix: str) -> int:
        """Remove all objects below `prefix/`; returns how many there were."""
        keys = [found.key for found in self.list(prefix)]
        self.delete(*keys)
        return len(keys)

    def _flush(self, key: str) -> None:
        """obstore renames a complete file into place but does not flush it; a power cut could leave it empty."""
        if self._root is None:
            return
        path = self._root / key
        path.chmod(0o644)
        for target in (path, *path.parents):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if target == self._root:
                return


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"not an artifact key: {key!r}")
    return key


async def _verified(chunks: AsyncIterator[bytes], size: int, sha256: str) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    received = 0
    async for chunk in chunks:
        digest.update(chunk)
        received += len(chunk)
        if received > size:
            break
        yield chunk
    if received != size:
        much = "more than" if received > size else f"{received} of"
        raise SecateurError(
            ErrorCode.CHECKSUM_MISMATCH, f"{much} the declared {size} bytes were received; send the file again."
        )
    if digest.hexdigest() != sha256:
        detail = (
            f"The received bytes have the SHA-256 {digest.hexdigest()}, but {sha256} was declared; send the file again."
        )
        raise SecateurError(ErrorCode.CHECKSUM_MISMATCH, detail)


def _options(start: int, end: int | None) -> Any:
    if end is not None:
        return {"range": (start, end)}
    return {"range": {"offset": start}} if start else {}


def _chunks(result: "obstore.GetResult") -> Iterator[bytes]:
    with _said_plainly():
        for chunk in result.stream(CHUNK):
            yield bytes(chunk)


async def _async_chunks(result: "obstore.GetResult") -> AsyncIterator[bytes]:
    with _said_plainly():
        async for chunk in result.stream(CHUNK):
            yield bytes(chunk)


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
