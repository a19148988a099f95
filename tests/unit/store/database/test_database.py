"""Schema and sessions, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, column, create_engine, insert, inspect, select, text
from sqlalchemy import table as named_table
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import DBAPIError

from api_schemas.api.checkup import Verdict
from api_schemas.enums import JobState
from store.checkup.database import check_database
from store.database.clock import now
from store.database.connection import Database, alembic_config
from store.database.postgresql import EncodingError
from store.database.tables import Base, Job, OutboxMessage, TenantTurn
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.settings import Settings
from tests.support.jobs.records import job_request
from tests.support.servers.databases import fresh_database


def test_migrations_make_exactly_the_tables_of_the_model(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrated_and_declared_indexes_and_keys_are_the_same(sqlite_database: Database) -> None:
    """Alembic's comparison leaves out primary keys and the rules of foreign keys."""
    declared = create_engine("sqlite://")
    Base.metadata.create_all(declared)
    ours, theirs = inspect(sqlite_database.engine), inspect(declared)
    for table in Base.metadata.tables:
        assert ours.get_pk_constraint(table) == theirs.get_pk_constraint(table)
        assert [_in_words(index) for index in ours.get_indexes(table)] == [
            _in_words(index) for index in theirs.get_indexes(table)
        ]
        assert ours.get_foreign_keys(table) == theirs.get_foreign_keys(table)


def _in_words(index: ReflectedIndex) -> dict[str, object]:
    """A condition is an object that equals no other."""
    return {**index, "dialect_options": str(index.get("dialect_options", {}).get("sqlite_where"))}


def test_a_database_that_cannot_hold_every_text_is_refused_in_words(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url, "template0", "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'") as url:
        database = Database(url)
        with pytest.raises(EncodingError, match="is SQL_ASCII, but must be UTF8"):
            database.migrate()
        database.close()
        found = check_database(Settings(data_dir=tmp_path, database_url=url), may_be_absent=False)
    assert [(each.verdict, (each.remedy or "").partition(":")[0]) for each in found] == [
        (Verdict.WRONG, "Create another and name it in SECATEUR_DATABASE_URL")
    ]


def test_several_processes_may_migrate_at_once(tmp_path: Path, postgres_url: str) -> None:
    def migrate(url: str) -> None:
        database = Database(url)
        database.migrate()
        database.close()

    with fresh_database(postgres_url) as url, ThreadPoolExecutor(3) as pool:
        list(pool.map(migrate, [url] * 3))
    # Alembic keeps its context in a module, so SQLite's turn has threads of its own only one after the other.
    for _ in range(2):
        migrate(f"sqlite:///{tmp_path / 'new' / 'a.db'}")


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_jobs_of_the_first_schema_are_read_after_the_newest_migration(
    tmp_path: Path, postgres_url: str, server: str
) -> None:
    """A job that succeeded before results were recorded has none, and is otherwise what it was."""
    values = {
        "id": "job_1", "request": job_request().model_dump(mode="json"), "lineage": {}, "priority": 0, "created_at": now(),
        "state": "succeeded", "epoch": 1, "failures": 0, "last_seq": 0, "tenant": "default",
    }  # fmt: skip
    first = named_table("jobs", *(column(name, JSON() if name in ("request", "lineage") else None) for name in values))
    with fresh_database(postgres_url) as postgres:
        database = Database(postgres if server == "postgresql" else f"sqlite:///{tmp_path / 'first.db'}")
        with database.engine.execution_options(secateur_write=True).begin() as connection:
            command.upgrade(alembic_config(connection), "0001")
            connection.execute(insert(first).values(values))
        database.migrate()
        with database.read() as session:
            job = jobs.get(session, DEFAULT_TENANT, "job_1")
            assert job is not None
            assert (job.state, job.result, job.request.pruning.target.share) == (JobState.SUCCEEDED, None, 0.5)
        database.close()


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_whose_turn_it_is_stays_after_the_migration(tmp_path: Path, postgres_url: str, server: str) -> None:
    """Until then it was looked for among the jobs."""
    begun = [("a", now(plus=-30)), ("a", now(plus=-10)), ("b", now(plus=-20)), ("c", None)]
    shared = {
        "request": job_request().model_dump(mode="json"), "lineage": {}, "priority": 0, "created_at": now(),
        "state": "queued", "epoch": 1, "failures": 0, "last_seq": 0, "ran_seconds": 0, "pause_requested": False,
        "stored_bytes": 0,
    }  # fmt: skip
    names = ["id", "tenant", "claimed_at", *shared]
    jobs_before = named_table(
        "jobs", *(column(name, JSON() if name in ("request", "lineage") else None) for name in names)
    )
    with fresh_database(postgres_url) as postgres:
        database = Database(postgres if server == "postgresql" else f"sqlite:///{tmp_path / 'before.db'}")
        with database.engine.execution_options(secateur_write=True).begin() as connection:
            command.upgrade(alembic_config(connection), "0012")
            for number, (tenant, claimed_at) in enumerate(begun):
                row = {"id": f"job_{number}", "tenant": tenant, "claimed_at": claimed_at}
                connection.execute(insert(jobs_before).values(row | shared))
        database.migrate()
        with database.read() as session:
            last = {job.id: job.claimed_at for job in session.scalars(select(Job))}
            turns = {turn.tenant: turn.begun_at for turn in session.scalars(select(TenantTurn))}
        assert turns == {"a": last["job_1"], "b": last["job_2"]}
        database.close()


def test_a_reading_session_cannot_write(database: Database) -> None:
    def write_through_a_reader() -> None:
        with database.read() as session:
            session.add(OutboxMessage(topic="wake"))
            session.flush()

    with pytest.raises(DBAPIError, match=r"readonly|read-only"):
        write_through_a_reader()
    with database.write() as session:
        session.add(OutboxMessage(topic="wake"))
    with database.read() as session:
        assert session.query(OutboxMessage).count() == 1


def test_a_writing_session_rolls_back_when_it_raises(database: Database) -> None:
    def write_and_raise() -> None:
        with database.write() as session:
            session.add(OutboxMessage(topic="wake"))
            session.flush()
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write_and_raise()
    with database.read() as session:
        assert session.query(OutboxMessage).count() == 0


def test_sqlite_enforces_foreign_keys_and_keeps_a_write_ahead_log(sqlite_database: Database) -> None:
    with sqlite_database.engine.connect() as connection:
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"


def test_moments_are_aware_and_add_seconds(database: Database) -> None:
    with database.write() as session:
        first = session.execute(now().select()).scalar_one()
        later = session.execute(now(plus=90.5).select()).scalar_one()
    assert first.tzinfo is not None
    assert 90.4 < (later - first).total_seconds() < 95


def test_ping_says_when_there_is_no_database(database: Database, tmp_path: Path) -> None:
    database.ping()
    with pytest.raises(DBAPIError):
        Database(f"sqlite:///{tmp_path / 'missing' / 'a.db'}").ping()
