"""Inputs that this worker has fetched before, so that twelve jobs on one model fetch it once.

No engine can reach the copies here, and each is checked again when it is used. They are found by the key of an object, which a
job is given only where it is its tenant's. worker/supervisor/tenant_caches.py makes room among all that a worker keeps.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_BYTES = "bytes"
_CHUNK = 2**20


class KeptInputs:
    """Copies below `folder`, an entry each, of files of at most `most_bytes`; 0: none."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes

    def bring(self, key: str, sha256: str, path: Path, fetch: Callable[[], None]) -> None:
        """Put the object at `path`: from here, or by `fetch`, which puts it there. Raises what that does."""
        entry = self._folder / hashlib.sha256(f"{key} {sha256}".encode()).hexdigest()
        if self._most_bytes and _copied(entry / _BYTES, path) == sha256:
            os.utime(entry)  # Who makes room begins with what was not used for longest.
            return
        fetch()
        if path.stat().st_size <= self._most_bytes:
            self._keep(entry, path)

    def _keep(self, entry: Path, path: Path) -> None:
        unfinished = entry.with_suffix(".part")
        try:
            shutil.rmtree(entry, ignore_errors=True)
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
    return digest.hexdigest()
