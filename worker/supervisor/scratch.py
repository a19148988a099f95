"""The scratch folder of a worker process: one subfolder per job, removed when the job leaves, whatever happened. And its name.

A worker holds a lock on its folder as long as it lives; a folder whose lock is free belonged to a worker that was killed. The
folder records that worker's name, so the next one to start on this machine hands its jobs back (worker/supervisor/supervisor.py).
Then the folder is removed.
"""

import fcntl
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

LOCK, NAME = "lock", "name"
ENGINE_SECONDS = 5.0
"""Time for the engine of a killed worker to end by itself: it only has to notice that its input was closed."""
HOST_LENGTH = 64


class Scratch:
    """This process's folder below `root`; created at once. Removes what dead workers left in theirs."""

    def __init__(self, root: Path, called: str | None = None) -> None:
        """`called`: SECATEUR_WORKER_NAME. Then the earlier worker of that name is known to be dead, wherever its folder is."""
        root.mkdir(parents=True, exist_ok=True)
        process = uuid.uuid4().hex[:12]
        self.name = f"{called or socket.gethostname()[:HOST_LENGTH]}:{process}:{os.getpid()}"
        """The name under which this process claims jobs; no other process ever has it."""
        self.folder = root / f"worker-{process}"
        self._remembered = False
        with _nobody_else_starts(root):
            self.folder.mkdir(mode=0o700)
            self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            (self.folder / NAME).write_text(self.name)
            others = {folder: _has_ended(folder) for folder in root.glob("worker-*") if folder != self.folder}
            self._dead = [folder for folder, dead in others.items() if dead]
            for folder in self._dead:
                _clear(folder)
        self.predecessors = {name for folder in self._dead if (name := _name(folder))}
        """Names under which dead workers claimed jobs, or a prefix that all of them had."""
        if called is not None:
            if any(_name(folder).startswith(f"{called}:") for folder, dead in others.items() if not dead):
                log.error("another worker is also called %s: give each worker its own SECATEUR_WORKER_NAME", called)
            else:
                self.predecessors.add(called)

    @contextmanager
    def job(self, name: str) -> Iterator[Path]:
        """An empty folder that is removed afterwards."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remember(self) -> None:
        """A job may still be this worker's in the database: from now on, its successor must know its name."""
        self._remembered = True

    def forget(self) -> None:
        """The database has no more jobs of this worker, or of those before it."""
        self._remembered = False
        while self._dead:
            shutil.rmtree(self._dead.pop(), ignore_errors=True)

    def close(self) -> None:
        """Remove the folder, except the name if it is still needed."""
        _clear(self.folder) if self._remembered else shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


@contextmanager
def _nobody_else_starts(root: Path) -> Iterator[None]:
    """A lock: between creating its folder and locking it, a worker would look dead to another."""
    lock = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # A network file system may not support locks on folders; then the moment is short.
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _has_ended(folder: Path) -> bool:
    """Whether the worker of the folder is dead; False if that cannot be determined."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _name(folder: Path) -> str:
    """Empty if there is none."""
    try:
        return (folder / NAME).read_text()
    except OSError:
        return ""


def _clear(folder: Path) -> None:
    """Stop the processes that still run in a folder, and remove everything in it except the worker's name."""
    _end_engines(folder)
    for path in folder.iterdir():
        if path.name in (LOCK, NAME):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _end_engines(folder: Path) -> None:
    """Kill engines of the folder: one that hangs would outlive its worker and keep the device's memory from the next one."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(folder):
                left.append(process)
    for process in psutil.wait_procs(left, timeout=ENGINE_SECONDS)[1] if left else ():
        log.warning("killed process %d, left behind by a worker that is gone", process.pid)
        with suppress(psutil.Error):
            process.kill()
