"""The connection to SQLite or PostgreSQL: a read session, a write session, and the migration to the newest schema.

A write session commits when its block ends and rolls back when the block raises. Functions that receive a session never commit,
so several of them in one block are one transaction.

No session waits forever. A busy server cancels a statement itself. If the server does not respond, because it is frozen or
unreachable, the client gives up at the session's deadline. Both raise one of `UNREACHABLE`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from store.database import deadline, postgresql

MIGRATIONS = Path(__file__).with_name("migrations")
SECONDS = 15.0
UNREACHABLE = (OperationalError, InterfaceError, PoolTimeout)
"""How a database that does not answer, or not in time, is said."""


class Database:
    """One engine and its two kinds of session. Safe to share between threads, not over a fork."""

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        """`seconds`: the longest wait of a session for a connection and for what it asks the database."""
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._seconds = seconds
        self.engine = _sqlite_engine(url, seconds) if self.sqlite else postgresql.engine(self.url, seconds)
        reader = self.engine.execution_options(secateur_write=False, **({} if self.sqlite else _READ_ONLY))
        writer = self.engine.execution_options(secateur_write=True)
        self._read = sessionmaker(reader, expire_on_commit=False)
        self._write = sessionmaker(writer, expire_on_commit=False)
        self.writes = 0
        """How many write sessions of this object have ended, for what is remembered of rows between them."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot; the database refuses writes through it. Raises one of UNREACHABLE."""
        with deadline.within(self._seconds), self._read() as session:
            yield session

    @contextmanager
    def write(self, seconds: float | None = None) -> Iterator[Session]:
        """A session that commits at the end of the block. On SQLite it holds the write lock from the start.

        `seconds`: where a commit would be of no use any more after so long. Raises one of UNREACHABLE, after which the commit
        may have been made all the same.
        """
        try:
            longest = self._seconds if seconds is None else min(seconds, self._seconds)
            with deadline.within(longest), self._write.begin() as session:
                yield session
        finally:
            self.writes += 1

    def ping(self) -> None:
        """Raise sqlalchemy.exc.OperationalError where the database does not answer."""
        with deadline.within(self._seconds), self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Several processes may do so at once; one does it."""
        if self.sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.engine.execution_options(secateur_write=True).begin() as connection:
            if not self.sqlite:
                # An index of a large table takes its time, and so does the other who migrates.
                for name in postgresql.LIMITS:
                    connection.execute(text(f"SET LOCAL {name} = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(5362)"))
            command.upgrade(alembic_config(connection), "head")

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


_READ_ONLY: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration, bound to an open transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _sqlite_engine(url: str, seconds: float) -> Engine:
    engine = create_engine(url, pool_timeout=seconds, connect_args={"timeout": seconds})

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
        connection.exec_driver_sql(f"PRAGMA busy_timeout={deadline.left(seconds) * 1000:.0f}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
