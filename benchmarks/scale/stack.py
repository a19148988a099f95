"""The service on one host and its workers on hosts of their own, as docs/howto/several-hosts.md has them."""

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from benchmarks.faults.client import PLAIN, Client
from benchmarks.scale import servers
from benchmarks.scale.cost import Spent, spent
from benchmarks.scale.network import Hosts
from benchmarks.scale.servers import wait_for
from secateur.local_server.processes import Program
from store.database.connection import Database
from tests.support.jobs import fake_engine

READY_SECONDS = 120.0
SETTINGS: Mapping[str, Any] = {
    "lease_seconds": 20,
    "heartbeat_seconds": 5,
    "auth": "keys",
    "log_level": "info",
    "engine_threads": 1,
    "device": "cpu",
    "cancel_grace_seconds": 5,
}
"""A lease that is shorter than a cut of 45 s, else as users have it."""
PYTHON = (sys.executable, "-m")
ENGINE = (sys.executable, str(Path(fake_engine.__file__)), "slow")
"""Three steps with a second's sleep in each."""


class Stack:
    """Servers, API and maintenance run; workers are started by `grow_to`."""

    def __init__(self, folder: Path, hosts: Hosts, database_url: str, postgres: int, passwords: Sequence[str]) -> None:
        self._folder, self._hosts, self._postgres = folder, hosts, postgres
        database_password, broker_password = passwords
        valkey, broker_url = servers.valkey(folder, hosts.address, broker_password)
        s3, endpoint = servers.bucket(folder, hosts.address)
        self._endpoint = endpoint
        self.url = f"http://{hosts.address}:{servers.free_port(hosts.address)}"
        values = {
            **SETTINGS,
            "database_url": database_url,
            "database_password": database_password,
            "broker_url": broker_url,
            "broker_password": broker_password,
            "artifacts_url": "s3://scale/benchmark",
            "allowed_hosts": json.dumps([hosts.address]),
            "engine_command": json.dumps(ENGINE),
        }
        self._environment = {
            **{f"SECATEUR_{name.upper()}": str(value) for name, value in values.items()},
            **servers.BUCKET_KEYS,
            "AWS_ENDPOINT": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "NO_PROXY": hosts.address,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
        }
        whole = make_url(database_url).set(password=database_password)
        self.database_url = whole.render_as_string(hide_password=False)
        self.database = Database(self.database_url)
        port = self.url.rpartition(":")[2]
        protocol = ["--http", "service.middleware.slow_clients:BoundedProtocol", "--ws", "none"]
        api = [*PYTHON, "uvicorn", "--factory", "service.app:create_app", "--host", hosts.address, "--port", port]
        celery = [*PYTHON, "celery", "-A", "worker.maintenance"]
        self._programs = {
            program.name: program
            for program in (
                valkey,
                s3,
                self._program("api", [*api, *protocol]),
                self._program("maintenance", [*celery, "worker", "-Q", "maintenance", "-n", "maintenance@%h"]),
                self._program("beat", [*celery, "beat", "--schedule", str(folder / "beat")]),
            )
        }
        self._workers: list[Program] = []

    def _program(self, name: str, command: Sequence[str]) -> Program:
        place = {"SECATEUR_DATA_DIR": str(self._folder / name)}
        return Program(name, command, self._folder / f"{name}.log", {**self._environment, **place})

    def start(self) -> None:
        """Returns once the API answers. Raises TimeoutError."""
        self.database.migrate()
        for name, program in self._programs.items():
            program.start()
            if name == "s3":
                servers.make_bucket(self._endpoint, "scale")
        wait_for(self._ready, READY_SECONDS, "the API")

    def grow_to(self, count: int) -> None:
        """Start workers up to that many, each on its host; returns once all take jobs. Raises TimeoutError."""
        for number in range(len(self._workers) + 1, count + 1):
            name = f"worker-{number}"
            command = [*PYTHON, "celery", "-A", "worker.app", "worker", "-Q", "jobs", "-n", f"{name}@%h"]
            program = self._program(name, self._hosts.command(number, [*command, "--loglevel", "INFO"]))
            program.environment = {**program.environment, "SECATEUR_WORKER_NAME": name}
            program.start()
            self._workers.append(program)
        wait_for(
            lambda: all("ready." in program.log_file.read_text() for program in self._workers if program.log_file),
            READY_SECONDS,
            "the workers",
        )

    def client(self, token: str) -> Client:
        """Of whoever has the key."""
        return Client(self.url, {**PLAIN, "trust_env": False, "headers": {"Authorization": f"Bearer {token}"}})

    def spent(self) -> dict[str, Spent]:
        """Processor seconds so far, by program."""
        programs = [*self._programs.values(), *self._workers]
        found = {program.name: spent(program.process.pid) for program in programs if program.process is not None}
        return found | {"postgresql": spent(self._postgres)}

    def dead(self) -> list[str]:
        """Programs that have ended by themselves."""
        return [program.name for program in (*self._programs.values(), *self._workers) if not program.alive]

    def stop(self) -> None:
        self.database.close()
        for program in reversed([*self._programs.values(), *self._workers]):
            program.signal(signal.SIGTERM)
        for program in (*self._programs.values(), *self._workers):
            try:
                if program.process is not None:
                    program.process.wait(20)
            finally:
                program.signal(signal.SIGKILL)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False, verify=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running(folder: Path, hosts: Hosts) -> Iterator[Stack]:
    """Ended, whatever happened, with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    passwords = (secrets.token_hex(16), secrets.token_hex(16))
    with ExitStack() as scope:
        url, pid = scope.enter_context(servers.postgres(hosts.address, hosts.pool, passwords[0]))
        stack = Stack(folder, hosts, url, pid, passwords)
        scope.callback(stack.stop)
        stack.start()
        yield stack
