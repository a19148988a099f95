"""The production stack on one machine, every program a process of its own that is started again when it dies.

with running_stack(folder, "postgresql") as stack:
    stack.signal("worker-1", signal.SIGKILL)
"""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from benchmarks.faults.servers import Postgres, postgres, valkey
from secateur.local_server.processes import Program
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.settings import Settings

Server = Literal["sqlite", "postgresql"]
WORKERS = ("worker-1", "worker-2")
RESTART_SECONDS = 0.3
READY_SECONDS = 90.0

SETTINGS: Mapping[str, Any] = {
    "lease_seconds": 4,
    "heartbeat_seconds": 1,
    "sweep_seconds": 1,
    "retry_delay_seconds": 0.1,
    # Faults come faster than steps here; a cap would end jobs that only had bad luck.
    "failure_cap": 1000,
    "cancel_grace_seconds": 2,
    # The drill's client asks again itself; on a busy machine a check takes longer than a call may.
    "check_wait_seconds": 1,
    "training_seconds": 0,
    # As eager as can be: a collector that took what somebody still needs would show.
    "collect_seconds": 5,
    "orphan_seconds": 5,
    "engine_threads": 1,
}
"""A lease of four seconds, and everything else as quick."""

LONG_LEASE = 120
"""For a stack in which no lease is to end: a busy machine stands still for four seconds now and then."""


class Stack:
    """A running stack. `client` speaks to its API, `database` and `artifacts` look behind it."""

    def __init__(
        self,
        folder: Path,
        sockets: Path,
        server: Postgres | None,
        environments: Mapping[str, Mapping[str, str]],
        **more: Any,
    ) -> None:
        """`environments` are added to those of single programs; `more` are settings."""
        broker, broker_url = valkey(folder, sockets)
        url = {} if server is None else {"database_url": server.url}
        here = {"data_dir": folder / "data", "broker_url": broker_url}
        self.settings = Settings(**{**here, **SETTINGS, **url, **more})
        self.postgres = server
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.database = Database(self.settings.database_url, self.settings.database_seconds)
        self.artifacts = Artifacts(self.settings.artifacts_url)
        shared = _environment(self.settings)
        self.programs = {program.name: program for program in [broker, *_programs(folder, self.url)]}
        for program in self.programs.values():
            program.environment = {**shared, **environments.get(program.name, {})}
        self._down: set[str] = set()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Returns once the API answers and every worker runs."""
        self.database.migrate()
        for program in self.programs.values():
            program.start()
        self._keeper.start()
        wait_until(self.ready, READY_SECONDS, "the stack")

    def stop(self) -> None:
        self._stopping.set()
        self._keeper.join(10)
        for program in self.programs.values():
            program.signal(signal.SIGKILL)
        for process in self.engines():
            process.kill()
        self.database.close()

    def ready(self) -> bool:
        """Whether the API answers."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, verify=False).status_code == 200
        except httpx.HTTPError:
            return False

    def pid(self, name: str) -> int:
        """Of a program that runs now."""
        process = self.programs[name].process
        return process.pid if process is not None else -1

    def kill(self, name: str) -> None:
        """KILL of this program alone, not of what it started; it comes back by itself."""
        if name == "postgresql" and self.postgres is not None:
            self.postgres.kill()
            self.postgres.start()
            return
        process = self.programs[name].process
        if process is not None:
            process.kill()
            process.wait()

    def down(self, name: str) -> None:
        """KILL, and keep it so until `up`."""
        self._down.add(name)
        self.kill(name)

    def up(self, name: str) -> None:
        self._down.discard(name)

    def terminate(self, name: str, seconds: float) -> int:
        """TERM, as a rolling restart does; returns its exit status."""
        process = self.programs[name].process
        assert process is not None
        process.terminate()
        return process.wait(seconds)

    def engines(self) -> list[psutil.Process]:
        """Every engine of this stack, whoever its parent is now: it leads a session, in the folder of its job."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == process.pid and Path(process.cwd()).is_relative_to(self.settings.scratch):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def worker_of(self, engine: psutil.Process) -> int | None:
        """The process number of its worker, its parent or its template's; None where that is gone. Raises psutil.Error."""
        workers = {self.pid(name) for name in WORKERS}
        return next((parent.pid for parent in engine.parents() if parent.pid in workers), None)

    def stray_engines(self) -> list[psutil.Process]:
        """Engines whose worker is no longer there."""
        stray = []
        for engine in self.engines():
            try:
                if engine.status() != psutil.STATUS_ZOMBIE and self.worker_of(engine) is None:
                    stray.append(engine)
            except psutil.Error:
                continue
        return stray

    def _keep(self) -> None:
        while not self._stopping.wait(RESTART_SECONDS):
            for name, program in self.programs.items():
                if name not in self._down and not program.alive and not self._stopping.is_set():
                    program.start()


@contextmanager
def running_stack(
    folder: Path, server: Server, environments: Mapping[str, Mapping[str, str]] | None = None, **settings: Any
) -> Iterator[Stack]:
    """A stack with everything below `folder`; ended, whatever happened, with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    sockets = Path(tempfile.mkdtemp(prefix="rig-"))  # Short: a socket's path has at most 107 characters.
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        database = stack.enter_context(postgres()) if server == "postgresql" else None
        made = Stack(folder, sockets, database, environments or {}, **settings)
        stack.callback(made.stop)
        made.start()
        yield made


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Poll until it is true; returns how many seconds that took. Raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what} did not come true within {seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def _programs(folder: Path, url: str) -> list[Program]:
    python = [sys.executable, "-m"]
    celery = [*python, "celery", "-A"]
    protocol = ["--http", "service.middleware.slow_clients:BoundedProtocol", "--ws", "none"]
    commands = {
        "api": [*python, "uvicorn", "--factory", "service.app:create_app", *protocol, "--port", url.rpartition(":")[2]],
        **{name: [*celery, "worker.app", "worker", "-Q", "jobs", "-n", f"{name}@%h"] for name in WORKERS},
        "maintenance": [*celery, "worker.maintenance", "worker", "-Q", "maintenance", "-n", "maintenance@%h"],
        "beat": [*celery, "worker.maintenance", "beat"],
    }
    return [
        Program(name, [*command, *(() if name == "api" else ("--loglevel", "INFO"))], folder / f"{name}.log")
        for name, command in commands.items()
    ]


def _environment(settings: Settings) -> dict[str, str]:
    texts = {
        f"SECATEUR_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in settings.model_dump(mode="json").items()
        if value is not None
    }
    return texts | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
