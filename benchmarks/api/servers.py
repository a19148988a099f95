"""The two servers, each one process under uvicorn on a port of its own, and what memory they take."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

BOUNDED = ("--http", "service.middleware.slow_clients:BoundedProtocol", "--ws", "none")
"""As the service is started everywhere."""
READY_SECONDS = 120
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident(self) -> int:
        """Bytes in memory now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @contextmanager
    def watched(self) -> Iterator["Growth"]:
        """How far its memory grows while the block runs."""
        growth, done = Growth(self.resident), threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                growth.most = max(growth.most, self.resident)

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield growth
        finally:
            done.set()
            thread.join()


@dataclass
class Growth:
    """Resident bytes before, and the most that was seen."""

    before: int
    most: int = 0

    @property
    def mib(self) -> float:
        return max(0, self.most - self.before) / 2**20


@contextmanager
def serving(app: str, environment: dict[str, str], log: Path, *options: str) -> Iterator[Server]:
    """`uvicorn --factory APP OPTION…`, ready when the block begins, gone when it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), "--no-access-log"]
    command += options
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
    try:
        server = Server(port, process.pid)
        _await_ready(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
