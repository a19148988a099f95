"""No session waits for ever: not for a lock, not for a connection, not for a server that stands still."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import TextClause, make_url, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from store.database.connection import UNREACHABLE, Database
from store.database.locks import one_at_a_time
from tests.support.servers.databases import StoppablePostgres, fresh_database, migrated, stoppable_postgres, wait_for

SECONDS = 1.0
MOST_SECONDS = 15.0
"""Far from SECONDS, for a busy machine, and further from for ever."""


@pytest.fixture(scope="module")
def server() -> Iterator[StoppablePostgres]:
    with stoppable_postgres() as made:
        yield made


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    with fresh_database(postgres_url) as url:
        database = Database(url, SECONDS)
        yield database
        database.close()


def ask(database: Database) -> int:
    with database.read() as session:
        return session.execute(select(text("1"))).scalar_one()


def take_turn(database: Database) -> None:
    with database.write() as session:
        one_at_a_time(session, "turn")


def test_a_server_that_stands_still_is_given_up_and_used_again_once_it_goes_on(server: StoppablePostgres) -> None:
    database = Database(server.url, SECONDS)
    assert ask(database) == 1
    with server.frozen():
        # Over a connection that is there, and over a new one.
        for question in (lambda: ask(database), database.ping):
            began = time.monotonic()
            with pytest.raises(UNREACHABLE):
                question()
            assert time.monotonic() - began < MOST_SECONDS
    wait_for(lambda: ask(database) == 1, what="the server's answer")
    database.close()


def test_what_was_asked_before_the_server_stood_still_is_not_done_afterwards(server: StoppablePostgres) -> None:
    """A statement lies in the server's buffer when its client gives up: without the client's commit nothing comes of it."""
    database = Database(server.url, SECONDS)
    with database.write() as session:
        session.execute(text("CREATE TABLE counters (value int)"))
        session.execute(text("INSERT INTO counters VALUES (0)"))

    def count(seconds: float) -> None:
        with database.write(seconds) as session:
            session.execute(text("SELECT 1"))
            with server.frozen():
                session.execute(text("UPDATE counters SET value = value + 1"))

    with pytest.raises(UNREACHABLE):
        count(0.2)
    with database.read() as session:
        assert session.execute(text("SELECT value FROM counters")).scalar_one() == 0
    with database.write() as session:
        session.execute(text("DROP TABLE counters"))
    database.close()


def test_a_lock_is_waited_for_only_so_long(postgres: Database) -> None:
    holder = Database(postgres.url.render_as_string(hide_password=False), seconds=60)
    with holder.write() as session:
        one_at_a_time(session, "turn")
        with pytest.raises(OperationalError, match=r"statement timeout|not answer in time"):
            take_turn(postgres)
    take_turn(postgres)
    holder.close()


def test_a_process_that_stands_still_in_a_transaction_keeps_nobody_out(postgres: Database) -> None:
    frozen = Database(postgres.url.render_as_string(hide_password=False), SECONDS)

    def stand_still() -> None:
        with frozen.write() as session:
            one_at_a_time(session, "turn")
            wait_for(lambda: passes(postgres), what="somebody else's turn")
            session.execute(select(text("1")))

    with pytest.raises(UNREACHABLE):
        stand_still()
    frozen.close()


def passes(database: Database) -> bool:
    try:
        take_turn(database)
    except OperationalError:
        return False
    return True


def test_a_connection_is_waited_for_only_so_long(postgres: Database) -> None:
    assert ask(postgres) == 1
    with ExitStack() as taken, pytest.raises(PoolTimeout):
        take_all(postgres, taken)
    assert ask(postgres) == 1


def take_all(database: Database, taken: ExitStack) -> None:
    while True:
        taken.enter_context(database.engine.connect())


def test_a_migration_takes_the_time_it_takes(postgres: Database) -> None:
    """Here it waits for another one; an index of a large table may take as long."""
    url = postgres.url.render_as_string(hide_password=False)
    migrating, watching = Database(url, seconds=0.1), Database(url)
    waited = text("SELECT now() - query_start > interval '0.3 s' FROM pg_stat_activity WHERE wait_event = 'advisory'")
    with ThreadPoolExecutor(1) as pool, watching.read() as session:
        with Database(url, seconds=60).write() as holder:
            holder.execute(text("SELECT pg_advisory_xact_lock(5362)"))
            migration = pool.submit(migrating.migrate)
            wait_for(lambda: migration.done() or _fresh(session, waited), what="a migration that waits")
        migration.result()
    migrating.close()
    watching.close()


def _fresh(session: Session, query: TextClause) -> bool:
    session.rollback()  # One snapshot of the server's activity a transaction.
    return bool(session.execute(query).scalar())


def test_options_of_the_address_are_kept(postgres_url: str) -> None:
    url = make_url(postgres_url).update_query_dict({"options": "-c lock_timeout=4321"})
    database = Database(url.render_as_string(hide_password=False), SECONDS)
    with database.read() as session:
        shown = [session.execute(text(f"SHOW {name}")).scalar_one() for name in ("lock_timeout", "statement_timeout")]
    assert shown == ["4321ms", "1s"]
    database.close()


def test_the_write_lock_of_sqlite_is_waited_for_only_so_long(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    holder, waiting = migrated(url), Database(url, seconds=0.2)
    with holder.write() as session:
        session.execute(select(text("1")))
        with pytest.raises(OperationalError, match="locked"):
            take_turn_on_sqlite(waiting)
    take_turn_on_sqlite(waiting)
    holder.close()
    waiting.close()


def take_turn_on_sqlite(database: Database) -> None:
    with database.write() as session:
        session.execute(select(text("1")))
