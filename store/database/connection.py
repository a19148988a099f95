"""The connection to SQLite or PostgreSQL: a session to read, a session to write, and the way to the newest schema.

A write session commits when its block ends and rolls back when it raises; functions that are given a session never
commit. Several such functions in one block are one transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_SECONDS = 30


class Database:
    """One engine and its two kinds of session. Safe to share between threads, not over a fork."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            _sqlite_engine(url) if self.sqlite else create_engine(url, pool_pre_ping=True, connect_args=_POSTGRESQL)
        )
        reader = self.engine.execution_options(secateur_write=False, **({} if self.sqlite else _READ_ONLY))
        writer = self.engine.execution_options(secateur_write=True)
        self._read = sessionmaker(reader, expire_on_commit=False)
        self._write = sessionmaker(writer, expire_on_commit=False)
        self.writes = 0
        """How many write sessions of this object have ended, for what is remembered of rows between them."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot; the database refuses writes through it."""
        with self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end of the block. On SQLite it holds the write lock from the start."""
        try:
            with self._write.begin() as session:
                yield session
        finally:
            self.writes += 1

    def ping(self) -> None:
        """Raise sqlalchemy.exc.OperationalError where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Several processes may do so at once; one does it."""
        if self.sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.engine.execution_options(secateur_write=True).begin() as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(5362)"))
            command.upgrade(alembic_config(connection), "head")

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


# A database that vanished must be noticed well within a lease.
_POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # Milliseconds that sent bytes may stay unanswered.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
_READ_ONLY: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration, bound to an open transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(dbapi: Any, _: ConnectionPoolEntry) -> None:
        dbapi.isolation_level = None  # The driver must not begin transactions on its own; `begin` below does.
        dbapi.execute("PRAGMA journal_mode=WAL")  # Readers never wait for a writer.
        dbapi.execute("PRAGMA synchronous=FULL")  # A committed step survives a power cut.
        dbapi.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes then would fail as busy instead of waiting its turn.
        write = connection.get_execution_options().get("secateur_write", False)
        connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if write else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
