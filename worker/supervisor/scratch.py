"""The scratch folder of a worker process: one subfolder a job, removed when the job leaves, whatever happened.

A worker holds a lock on its folder for as long as it lives; a folder whose lock is free was left by one that was
killed, and the next worker to start on this machine removes it.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "lock"


class Scratch:
    """This process's folder below `root`; made at once, with what dead workers left removed."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.folder = root / f"worker-{uuid.uuid4().hex[:12]}"
        self.folder.mkdir(mode=0o700)
        self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for other in root.glob("worker-*"):
            if other != self.folder:
                _remove_if_dead(other)

    @contextmanager
    def job(self, name: str) -> Iterator[Path]:
        """An empty folder that is gone afterwards."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return  # Being made or removed at this moment.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # Its worker lives.
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
