"""Inputs that this worker has fetched before, so that twelve jobs on one model fetch it once.

No engine can reach the copies here, and each is checked again when it is used. They are found by the key of an object, which a
job is given only where it is its tenant's. What hubs and buckets of models send is not kept: nobody names its bytes beforehand.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from api_schemas.errors import ErrorCode, SecateurError

log = logging.getLogger(__name__)

UNUSED_SECONDS = 86_400.0
"""After which an entry goes, whatever room there is: its data may have been deleted."""
_BYTES = "bytes"
_CHUNK = 2**20


class KeptInputs:
    """Copies in a folder of `caches`, an entry each; with all that lies there they have at most `most_bytes`. 0: none."""

    def __init__(self, caches: Path, most_bytes: int) -> None:
        self._caches, self._folder, self._most_bytes = caches, caches / "inputs", most_bytes

    def bring(self, key: str, sha256: str, path: Path, fetch: Callable[[], None]) -> None:
        """Put the object at `path`: from here, or by `fetch`, which puts it there. Raises what that does."""
        entry = self._folder / hashlib.sha256(f"{key} {sha256}".encode()).hexdigest()
        if self._most_bytes and _copied(entry / _BYTES, path) == sha256:
            os.utime(entry)  # Who makes room begins with what was not used for longest.
            return
        try:
            fetch()
        except SecateurError as error:
            if error.code is not ErrorCode.SCRATCH_FULL or not self._give_up_all():
                raise
            fetch()
        if self._most_bytes:
            self._keep(entry, path)

    def _give_up_all(self) -> bool:
        """Remove everything that is kept; whether there was anything."""
        return self._caches.exists() and make_room(self._caches, 0) > 0

    def _keep(self, entry: Path, path: Path) -> None:
        unfinished = entry.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
            size = path.stat().st_size
            if size > self._most_bytes or make_room(self._caches, self._most_bytes, size) < 0:
                return
            unfinished.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, unfinished / _BYTES)
            unfinished.rename(entry)
        except OSError:
            # Nobody needs it; a disk that is full will be noticed by who does.
            log.warning("an input is not kept", exc_info=True)
            shutil.rmtree(unfinished, ignore_errors=True)


def _copied(source: Path, path: Path) -> str | None:
    """The SHA-256 of what was copied; None where there is nothing."""
    digest = hashlib.sha256()
    try:
        with source.open("rb") as kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while chunk := kept.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
    except FileNotFoundError:
        return None
    except OSError:
        log.warning("an input that was kept cannot be read", exc_info=True)
        return None
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
