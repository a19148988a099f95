"""The service and worker processes as an operator starts them, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import psutil

from store.settings import Settings
from tests.support.checks import checking
from tests.support.servers.databases import wait_for


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process reads them."""
    values = settings.model_dump(mode="json")
    texts = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return os.environ | {f"SECATEUR_{name.upper()}": value for name, value in texts.items()}


@contextmanager
def service_process(
    settings: Settings, log: Path, host: str = "127.0.0.1", *, maintained: bool = False
) -> Iterator[httpx.Client]:
    """The service under uvicorn, bound to a port of its own, and a client of it. It answers when the block begins. Datasets are
    checked as if a maintenance worker ran, unless one does (`maintained`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:create_app", "--host", host, "--port", port]
    command += ["--http", "service.middleware.slow_clients:BoundedProtocol", "--ws", "none"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment(settings), stdout=output, stderr=output)
    try:
        with (
            nullcontext() if maintained else checking(settings),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            wait_for(lambda: _answers(client) or process.poll() is not None, 30, "the service")
            assert process.poll() is None, log.read_text()
            yield client
    finally:
        process.kill()
        process.wait()


def gone(pid: int) -> bool:
    """Ended; one that nobody has waited for yet counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def process_of(client: httpx.Client) -> psutil.Process:
    """Of the service that the client calls."""
    port = str(client.base_url.port)
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # One that checked a dataset has just ended.
            if {"service.app:create_app", port} <= set(child.cmdline()):
                return child
    raise AssertionError(f"no service at port {port}")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


class CeleryProcess:
    """`celery -A APP …`, with its output in a file. Ended by KILL at the latest when the block ends."""

    def __init__(self, app: str, *arguments: str, settings: Settings, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "celery", "-A", app, *arguments, "--loglevel", "INFO"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment(settings), stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self) -> "CeleryProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def ready(self) -> bool:
        """Raises AssertionError, with the log, where the process has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return "ready." in self.log.read_text()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def job_worker(settings: Settings, log: Path) -> CeleryProcess:
    return CeleryProcess("worker.app", "worker", "-Q", "jobs", settings=settings, log=log)


def maintenance_worker(settings: Settings, log: Path) -> CeleryProcess:
    """With beat inside, which one small process may have."""
    return CeleryProcess("worker.maintenance", "worker", "-Q", "maintenance", "--beat", settings=settings, log=log)
