"""What is asked again and again reads no table whole: every such statement is looked up in an index, on SQLite as it says itself.

`python -m benchmarks.crowd` measures the same on PostgreSQL.
"""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.resources import DeclaredFile
from api_schemas.api.webhooks import DeliveryState
from api_schemas.enums import DeviceKind, JobState
from store import retention
from store.access import audit, idempotency, quotas, sessions
from store.database.connection import Database
from store.files import orphans
from store.jobs import deletion, job_lists, jobs, transitions
from store.jobs.job_lists import JobFilter
from store.jobs.queue_positions import queue_positions
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Capability
from store.settings import Settings
from store.uploads import uploads
from store.webhooks import deliveries
from tests.support.jobs.job_transitions import running, submit, succeed

DAY = 86_400.0
SMALL = ("outbox", "webhooks", "workers", "tenant_turns", "waiting", "anon_")
"""Tables that stay small, and what a statement makes for itself."""
T = "default"
GPU = Capability(DeviceKind.CUDA, 2**34)
FILES = [DeclaredFile(name=name, size=1, sha256="ab" * 32) for name in ("config.json", "model.safetensors")]
KEYS = [f"jobs/{ids.new_id(ids.JOB)}/epoch-1/step-1/a", "uploads/x/1/a"]

Ask = Callable[[Session], object]
ASKED: dict[str, Ask] = {
    "jobs": lambda session: job_lists.page(session, T, None, 20),
    "jobs in a state": lambda session: job_lists.page(session, T, None, 20, JobFilter(states=[JobState.FAILED])),
    "jobs in states": lambda session: job_lists.page(
        session, T, None, 20, JobFilter(states=[JobState.FAILED, JobState.CANCELLED])
    ),
    "jobs with a label": lambda session: job_lists.page(session, T, None, 20, JobFilter(labels=["team=a"])),
    "jobs with two labels": lambda session: job_lists.page(session, T, None, 20, JobFilter(labels=["team=a", "b"])),
    "jobs with a label in a state": lambda session: job_lists.page(
        session, T, None, 20, JobFilter(labels=["team=a"], states=[JobState.FAILED])
    ),
    "jobs of a model": lambda session: job_lists.page(session, T, None, 20, JobFilter(model_id="mdl_a")),
    "places in the queue": lambda session: queue_positions(session, 3, ["job_a", "job_b"]),
    "jobs for workers": lambda session: jobs.count_claimable(session, 3, 2, 32),
    "claiming": lambda session: transitions.claim(session, "worker", 60, 3),
    "claiming, tenants bounded": lambda session: transitions.claim(session, "worker", 60, 3, 2),
    "claiming, by a GPU": lambda session: transitions.claim(session, "worker", 60, 3, has=GPU),
    "workers": lambda session: live_workers.page(session, None, 20),
    "sweeping leases": lambda session: transitions.sweep(session, 3),
    "declaring": lambda session: uploads.create(session, T, "model", None, FILES),
    "uploads": lambda session: uploads.page(session, T, "model", None, 20),
    "quotas": lambda session: quotas.usage(session, T),
    "what jobs need": lambda session: deletion.needed_among(session, {"mdl_a", "dst_a"}),
    "audit": lambda session: audit.page(session, T, None, 20),
    "deliveries": lambda session: deliveries.page(session, T, "whk_a", None, 20, DeliveryState.FAILED),
    "orphans": lambda session: orphans._named(session, KEYS),
}
KEPT = Settings(upload_retention_seconds=DAY, result_retention_seconds=DAY)
TASKS: dict[str, Callable[[Database], object]] = {
    "retention": lambda database: retention.expire(database, KEPT),
    "log of deliveries": lambda database: deliveries.expire(database, DAY),
    "answers": idempotency.sweep,
    "sessions": sessions.sweep,
}


def whole_tables(database: Database, act: Callable[[], object]) -> list[str]:
    """Tables that a statement of `act` goes through from end to end, with the statement."""
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert statements
    found = []
    with database.engine.connect() as connection:
        for statement, parameters in statements:
            for *_, detail in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                words = str(detail).split()
                if words[0] == "SCAN" and "INDEX" not in words and not words[1].startswith(("(", "CONSTANT", *SMALL)):
                    found.append(f"{detail}: {statement}")
    return found


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    lease = running(sqlite_database)
    succeed(sqlite_database, lease)
    submit(sqlite_database)
    with sqlite_database.write() as session:
        session.execute(text("ANALYZE"))
    return sqlite_database


@pytest.mark.parametrize("name", ASKED)
def test_a_statement_looks_things_up(filled: Database, name: str) -> None:
    def ask() -> None:
        with filled.write() as session:
            ASKED[name](session)

    assert whole_tables(filled, ask) == []


@pytest.mark.parametrize("name", TASKS)
def test_and_so_does_a_task(filled: Database, name: str) -> None:
    assert whole_tables(filled, lambda: TASKS[name](filled)) == []
