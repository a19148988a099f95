"""Positions in the queue against the claims that then come, whatever waits and runs."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, update

from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.jobs.queue_positions import KEPT_SECONDS, QueuePositions, queue_positions
from tests.support.jobs.job_transitions import CAP, cancel, crash, load, pause
from tests.unit.store.jobs.test_turns import begin, queue

QUEUED = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1)), min_size=1, max_size=7)


def queued(database: Database, jobs: list[tuple[str, int]]) -> list[str]:
    """A job for each tenant and priority, a second apart."""
    found = queue(database, [tenant for tenant, _ in jobs])
    with database.write() as session:
        for job_id, (_, priority) in zip(found, jobs, strict=True):
            session.execute(update(Job).where(Job.id == job_id).values(priority=priority))
    return found


def asked(database: Database, job_ids: list[str]) -> dict[str, int]:
    with database.read() as session:
        return queue_positions(session, CAP, job_ids)


def forecast(database: Database, running: list[tuple[str, int]], waiting: list[tuple[str, int]]) -> None:
    with database.write() as session:
        session.execute(delete(Job))
    queued(database, running)
    for _ in running:
        begin(database)
    job_ids = queued(database, waiting)
    found = asked(database, job_ids)
    assert sorted(found.values()) == list(range(1, len(waiting) + 1))
    claimed = [begin(database).job_id for _ in waiting]
    assert sorted(job_ids, key=found.__getitem__) == claimed


@given(st.lists(st.tuples(st.sampled_from("abc"), st.just(0)), max_size=4), QUEUED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_claims_come_in_the_order_of_the_places(
    sqlite_database: Database, running: list[tuple[str, int]], waiting: list[tuple[str, int]]
) -> None:
    forecast(sqlite_database, running, waiting)


def test_and_so_they_do_on_the_other_database(postgres_database: Database) -> None:
    running, waiting = [("b", 0)], [("a", 0), ("a", 1), ("a", 1), ("b", 0), ("b", 0), ("c", 0), ("c", 1)]
    forecast(postgres_database, running, waiting)


@pytest.mark.parametrize("end", [cancel, pause])
def test_only_what_waits_has_a_place(database: Database, end: Callable[..., object]) -> None:
    first, second, third = queued(database, [("a", 0)] * 3)
    end(database, first, "a")
    lease = begin(database)
    assert lease.job_id == second
    assert asked(database, [first, second, third]) == {third: 1}
    crash(database, lease, delay=3600)
    # It waits for its time, and not for a worker.
    assert asked(database, [second, third]) == {third: 1}
    with database.write() as session:
        session.execute(update(Job).where(Job.id == second).values(available_at=now(plus=-1)))
    assert load(database, second).state == "queued"
    assert asked(database, [second, third]) == {second: 1, third: 2}


def test_a_job_whose_worker_is_gone_counts_among_those_before(database: Database) -> None:
    lost, waiting = queued(database, [("a", 0)] * 2)
    begin(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == lost).values(lease_until=now(plus=-1)))
    assert asked(database, [lost, waiting]) == {waiting: 2}


def test_any_number_of_places_is_as_many_queries(database: Database) -> None:
    queries: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: queries.append(given[2]))

    def asked_for(count: int) -> int:
        job_ids = queued(database, [("a", 0), ("b", 1)] * count)
        with database.read() as session:
            session.connection()
            queries.clear()
            assert queue_positions(session, CAP, job_ids).keys() == set(job_ids)
            return len(queries)

    assert asked_for(20) == asked_for(1) == 4


def test_of_some_jobs_the_places_are_those_among_all(database: Database) -> None:
    job_ids = queued(database, [("a", 0), ("b", 0), ("c", 1), ("a", 0), ("b", 1), ("a", 1)])
    everybodys = asked(database, job_ids)
    for some in ((0, 3, 5), (4,), (5, 1)):
        assert asked(database, [job_ids[at] for at in some]) == {job_ids[at]: everybodys[job_ids[at]] for at in some}


def test_many_who_poll_are_one_query(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = queued(database, [("a", 0)] * 2)
    elsewhere = Database(str(database.url.render_as_string(hide_password=False)))
    moment = 100.0
    monkeypatch.setattr("store.jobs.queue_positions.time.monotonic", lambda: moment)
    seen = QueuePositions(database, CAP)

    def poll(*job_ids: str) -> dict[str, int]:
        with database.read() as session:
            return seen.of(session, job_ids)

    assert poll(first, second) == {first: 1, second: 2}
    cancel(elsewhere, first, "a")
    # Another process: seen a moment later.
    assert poll(second) == {second: 2}
    moment += KEPT_SECONDS
    assert poll(first, second) == {second: 1}
    # A job that is not known is asked for at once, and so is everything after a write of this process.
    [third] = queued(elsewhere, [("b", 5)])
    assert poll(third) == {third: 1}
    cancel(database, third, "b")
    assert poll(second, third) == {second: 1}
    elsewhere.close()
