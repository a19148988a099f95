"""`secateur up`: starts the embedded stack, waits until it is ready, keeps it running, and stops all of it.

While the stack runs, `<data dir>/up.json` says where: {"url": …, "pid": …, "broker": …}.
"""

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

import httpx
from rich.console import Console

from secateur.documents import Started
from secateur.local_server import installed, services
from secateur.local_server.processes import CrashLoopError, Program, Programs

READY_SECONDS = 90.0
POLL_SECONDS = 0.2
# A job that runs is ended and handed back first (SECATEUR_CANCEL_GRACE_SECONDS), then the rest of the stack goes.
STOP_MARGIN = 20.0


class StartError(Exception):
    """The stack cannot be started; the text says why and what to do."""


class Stop:
    """Set by INT and TERM; a second one means: at once."""

    def __init__(self) -> None:
        self.signals = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.signals += 1


def stop_seconds() -> float:
    """How long programs have, a worker among them, to end by themselves."""
    return float(os.environ.get("SECATEUR_CANCEL_GRACE_SECONDS", "30")) + STOP_MARGIN


def up(data_dir: Path, port: int, console: Console, told: TextIO | None = None) -> int:
    """Run until a signal or a failure; returns the exit status. `port` 0 takes a free one. `told`: where it is written as JSON
    that it is ready."""
    data_dir = data_dir.expanduser().absolute()
    programs = Programs(lambda program, status: console.print(_crash_line(program, status)))
    try:
        if (lacking := installed.not_installed(installed.STACK, "server,worker")) is not None:
            raise StartError(lacking)
        with _only_one(data_dir), services.socket_folder() as sockets:
            port = _free_port(port)
            stop = Stop()
            try:
                _start(programs, data_dir, port, sockets, stop)
                if not stop.signals:
                    _announce(data_dir, port, sockets, console)
                    if told is not None:
                        url = f"http://{services.HOST}:{port}"
                        started = Started(url=url, pid=os.getpid(), data_dir=data_dir)
                        print(started.model_dump_json(), file=told, flush=True)
                while not stop.signals:
                    programs.restart_crashed()
                    time.sleep(POLL_SECONDS)
                console.print("Stopping; a second signal stops at once.")
            finally:
                (data_dir / "up.json").unlink(missing_ok=True)
                programs.stop(stop_seconds(), hurry=lambda: stop.signals > 1)
    except (StartError, CrashLoopError) as error:
        console.print("[red]error:[/] ", end="")
        console.print(str(error), markup=False, highlight=False)
        return 1
    console.print("Stopped.")
    return 0


def _start(programs: Programs, data_dir: Path, port: int, sockets: Path, stop: Stop) -> None:
    """Broker, then API (it migrates the database), then the workers. Returns early when a signal comes."""
    (data_dir / "logs").mkdir(parents=True, exist_ok=True)
    settings = services.environment(data_dir, sockets)
    for program in services.broker(data_dir, sockets):
        programs.add(program)
    front = services.api(data_dir, port, settings)
    programs.add(front)
    deadline = time.monotonic() + READY_SECONDS
    while not stop.signals and not _ready(port):
        ended = [program for program in programs.all if not program.alive]
        if ended or time.monotonic() > deadline:
            blamed = ended[0] if ended else front
            reason = "ended while starting" if ended else f"was not ready within {READY_SECONDS:.0f} s"
            raise StartError(f"{blamed.name} {reason}. Its log, {blamed.log_file}, ends with:\n{blamed.log_tail()}")
        time.sleep(POLL_SECONDS)
    for program in services.workers(data_dir, settings):
        if not stop.signals:
            programs.add(program)


def _ready(port: int) -> bool:
    try:
        # No proxy of the environment between this machine and itself.
        with httpx.Client(trust_env=False, timeout=5) as client:
            return client.get(f"http://{services.HOST}:{port}/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _announce(data_dir: Path, port: int, sockets: Path, console: Console) -> None:
    url = f"http://{services.HOST}:{port}"
    told = {"url": url, "pid": os.getpid(), "broker": services.broker_url(sockets)}
    partial = data_dir / "up.json.partial"
    partial.touch(mode=0o600)  # The address of a broker may have its password.
    partial.write_text(json.dumps(told))
    partial.replace(data_dir / "up.json")
    console.print(f"[bold green]Secateur is ready:[/] {url}   documentation: {url}/docs")
    console.print(f"Data and logs in {data_dir}. Only this machine can reach it. Ctrl-C stops it.")


def _crash_line(program: Program, status: int) -> str:
    return f"[yellow]{program.name} ended with status {status} and is started again[/] (log: {program.log_file})"


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder. Raises StartError where another `secateur up` does."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"Another `secateur up` runs on {data_dir}. Stop it, or give another --data-dir."
            ) from error
        yield


def _free_port(port: int) -> int:
    """`port`, or a free one for 0. Raises StartError where somebody listens on it."""
    with socket.socket() as probe:
        # As the server will: a port that only waits for old connections to expire is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((services.HOST, port))
        except OSError as error:
            raise StartError(
                f"Port {port} is in use ({error.strerror}). Give another one: --port 8001, or 0."
            ) from error
        return int(probe.getsockname()[1])
