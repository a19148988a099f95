"""Inputs that this worker has fetched before, so that twelve jobs on one model fetch it once.

No engine can reach the copies here, and each is checked again when it is used. Their keys are known only to jobs that may read
the object: for a tenant's own files the key in the artifact store, otherwise the location and version that the hub or the bucket
has just returned.
"""

import errno
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from api_schemas.errors import ErrorCode, SecateurError

log = logging.getLogger(__name__)

UNUSED_SECONDS = 86_400.0
"""After which an entry goes, whatever room there is: its data may have been deleted."""
LEAST_BYTES = 2**22
"""Of a file that is kept. To make room all entries are looked at, and a folder of recordings may have 100,000 small ones."""
SCRATCH_FULL = "The worker's scratch disk is full."
_BYTES, _SHA256 = "bytes", "sha256"
_SHA256_BYTES = 64
_CHUNK = 2**20


class KeptInputs:
    """Copies in a folder of `caches`, an entry each; with all that lies there they have at most `most_bytes`. 0: none.

    Several threads may bring files at once.
    """

    def __init__(self, caches: Path, most_bytes: int) -> None:
        self._caches, self._folder, self._most_bytes = caches, caches / "inputs", most_bytes
        self._lock = threading.Lock()
        self._given_up = 0

    def bring(self, key: str, path: Path, fetch: Callable[[], None]) -> None:
        """Put at `path` the bytes that `key` alone names: from here, or by `fetch`, which puts them there.

        Raises what that does, and SCRATCH_FULL.
        """
        entry = self._folder / hashlib.sha256(key.encode()).hexdigest()
        with self._lock:
            given_up = self._given_up
            if self._most_bytes and _copied(entry, path):
                os.utime(entry)  # Who makes room begins with what was not used for longest.
                return
        try:
            with room():
                fetch()
        except SecateurError as error:
            if error.code is not ErrorCode.SCRATCH_FULL or not self._give_up_all(given_up):
                raise
            with room():
                fetch()
        with self._lock:
            if self._most_bytes and path.stat().st_size >= LEAST_BYTES:
                self._keep(entry, path)

    def _give_up_all(self, given_up: int) -> bool:
        """Remove everything that is kept; whether there was anything, now or since this had happened `given_up` times."""
        with self._lock:
            if self._caches.exists() and make_room(self._caches, 0) > 0:
                self._given_up += 1
            return self._given_up > given_up

    def _keep(self, entry: Path, path: Path) -> None:
        unfinished = entry.with_suffix(f".{os.getpid()}")  # Workers may share a folder.
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
            size = path.stat().st_size + _SHA256_BYTES
            if size > self._most_bytes or make_room(self._caches, self._most_bytes, size) < 0:
                return
            unfinished.mkdir(parents=True, exist_ok=True)
            (unfinished / _SHA256).write_text(_copy(path, unfinished / _BYTES))
            unfinished.rename(entry)
        except OSError:
            # Nobody needs it; a disk that is full will be noticed by who does.
            log.warning("an input could not be added to the cache", exc_info=True)
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def room() -> Iterator[None]:
    """A full disk, said as such."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SecateurError(ErrorCode.SCRATCH_FULL, SCRATCH_FULL) from error
        raise


def _copied(entry: Path, path: Path) -> bool:
    """Whether an entry's bytes, as they were when they were kept, lie at `path` now. What is damaged goes, the copy too."""
    try:
        expected = (entry / _SHA256).read_text()
        path.parent.mkdir(parents=True, exist_ok=True)
        if _copy(entry / _BYTES, path) == expected:
            return True
        log.warning("a cached input is damaged")
    except FileNotFoundError:
        return False
    except OSError:
        log.warning("a cached input cannot be read", exc_info=True)
    # A download goes on behind what it finds.
    path.unlink(missing_ok=True)
    shutil.rmtree(entry, ignore_errors=True)
    return False


def _copy(source: Path, path: Path) -> str:
    """The SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as kept, path.open("wb") as file:
        while chunk := kept.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def make_room(root: Path, most_bytes: int, wanted: int = 0) -> int:
    """Remove entries of the folders in `root` that were not used for long, and then those not used for longest, whosever they
    are, until `wanted` bytes more would be at most `most_bytes` in all, and no more than is left free on the disk.

    Returns the bytes that went, or -1 where there is no room for so many. Raises OSError.
    """
    entries = sorted((entry.lstat().st_mtime, size_of(entry), entry) for entry in root.glob("*/*"))
    kept = before = sum(size for _, size, _ in entries)
    for used, size, entry in entries:
        most = min(most_bytes, (shutil.disk_usage(root).free + kept) // 2)
        if kept + wanted <= most and used > time.time() - UNUSED_SECONDS:
            break
        remove(entry)
        kept -= size
    most = min(most_bytes, (shutil.disk_usage(root).free + kept) // 2)
    return before - kept if kept + wanted <= most else -1


def size_of(entry: Path) -> int:
    """Bytes of the files in an entry."""
    return sum(file.lstat().st_size for file in entry.iterdir())


def remove(entry: Path) -> None:
    """A folder with what is in it, or whatever else it is."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        with suppress(FileNotFoundError):
            entry.unlink()
