"""Sweeps in the store: never more of one's jobs at once than it says, and nobody else's wait for them."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from api_schemas.api.sweeps import PlannedJob, SweepPlan
from api_schemas.enums import JobState, SweepState
from store import retention
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, Sweep
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, sweeps, transitions
from store.jobs.queue_positions import queue_positions
from store.settings import Settings
from tests.support.jobs.job_transitions import CAP, LEASE_SECONDS, claim, expire, release, submit, succeed
from tests.support.jobs.records import job_request


def sweep_of(
    database: Database, count: int, at_once: int | None, tenant: str = DEFAULT_TENANT
) -> tuple[str, list[str]]:
    """A sweep of so many jobs; its name and theirs."""
    with database.write() as session:
        request = job_request()
        planned = tuple(PlannedJob(label=str(number), changes={}) for number in range(count))
        plan = SweepPlan(model=request.model, dataset=request.dataset, jobs=planned)
        sweep = sweeps.create(session, tenant, None, plan, at_once)
        found = [jobs.create(session, tenant, request, {}, sweep=(sweep.id, index)).id for index in range(count)]
        return sweep.id, found


def claimed(database: Database) -> list[str]:
    """Everything that can be claimed now."""
    found = []
    while lease := claim(database):
        found.append(lease.job_id)
    return found


def claimable(database: Database) -> int:
    with database.read() as session:
        return jobs.count_claimable(session, CAP)


def test_no_more_jobs_of_a_sweep_run_than_it_says(database: Database) -> None:
    _, mine = sweep_of(database, 4, at_once=2)
    single = submit(database)
    # The sweep's are older, and do not stand in the way of what comes after them.
    first = claim(database)
    assert first is not None
    assert set(claimed(database)) == {mine[1], single}
    assert claimable(database) == 0
    succeed(database, first)
    assert claimed(database) == [mine[2]]


def test_a_sweep_without_a_bound_takes_what_there_is(database: Database) -> None:
    _, mine = sweep_of(database, 3, at_once=None)
    assert sorted(claimed(database)) == sorted(mine)


def test_other_tenants_and_other_sweeps_are_not_counted(database: Database) -> None:
    _, mine = sweep_of(database, 2, at_once=1)
    _, more = sweep_of(database, 2, at_once=1)
    _, theirs = sweep_of(database, 2, at_once=1, tenant="b")
    assert set(claimed(database)) == {mine[0], more[0], theirs[0]}


def test_a_lost_job_does_not_keep_its_sweep_from_going_on(database: Database) -> None:
    _, mine = sweep_of(database, 2, at_once=1)
    lost = claim(database)
    assert lost is not None
    expire(database, lost.job_id)
    assert claimed(database) == [mine[0]]
    again = claim(database)
    assert again is None


def test_the_bound_holds_for_claimers_that_come_at_once(database: Database) -> None:
    sweep_of(database, 6, at_once=2)
    start = threading.Barrier(3)

    def claim_all(worker: int) -> list[str]:
        start.wait()
        mine = []
        while lease := claim(database, str(worker)):
            mine.append(lease.job_id)
        return mine

    with ThreadPoolExecutor(3) as pool:
        assert sum(map(len, pool.map(claim_all, range(3)))) == 2


def test_who_counts_nothing_takes_none_of_a_sweep(postgres_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that is submitted after a claimer has looked for sweeps: it has no lock, and another may be about to claim."""
    _, mine = sweep_of(postgres_database, 1, at_once=1)
    monkeypatch.setattr(transitions.turns, "sweeps_wait", lambda _: False)
    assert claim(postgres_database) is None
    single = submit(postgres_database)
    assert claimed(postgres_database) == [single]
    monkeypatch.undo()
    assert claimed(postgres_database) == mine
    expire(postgres_database, mine[0])
    monkeypatch.setattr(transitions.turns, "sweeps_wait", lambda _: False)
    assert claim(postgres_database) is None


def test_a_released_job_comes_back_first(database: Database) -> None:
    _, mine = sweep_of(database, 2, at_once=1)
    lease = claim(database)
    assert lease is not None
    release(database, lease)
    assert claimed(database) == mine[:1]


def test_jobs_of_a_full_sweep_have_places_in_the_queue(database: Database) -> None:
    _, mine = sweep_of(database, 3, at_once=1)
    claim(database)
    with database.read() as session:
        assert queue_positions(session, CAP, mine) == {mine[1]: 1, mine[2]: 2}
    theirs = submit(database, "b")
    with database.read() as session:
        # The other tenant has none running.
        assert queue_positions(session, CAP, [*mine, theirs]) == {theirs: 1, mine[1]: 2, mine[2]: 3}


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({JobState.QUEUED: 3}, SweepState.QUEUED),
        ({JobState.QUEUED: 2, JobState.PAUSED: 1}, SweepState.QUEUED),
        ({JobState.QUEUED: 2, JobState.SUCCEEDED: 1}, SweepState.RUNNING),
        ({JobState.RUNNING: 1}, SweepState.RUNNING),
        ({JobState.CANCELLING: 1, JobState.CANCELLED: 2}, SweepState.RUNNING),
        ({JobState.PAUSED: 1, JobState.FAILED: 2}, SweepState.PAUSED),
        ({JobState.SUCCEEDED: 1, JobState.FAILED: 2, JobState.CANCELLED: 1, JobState.RUNNING: 0}, SweepState.ENDED),
        ({}, SweepState.ENDED),
    ],
)
def test_the_state_follows_from_the_jobs(counts: dict[JobState, int], state: SweepState) -> None:
    assert sweeps.state_of(counts) is state


def test_what_is_steered_is_the_tenants_own(database: Database) -> None:
    sweep, mine = sweep_of(database, 2, at_once=1)
    with database.write() as session:
        assert sweeps.get(session, "b", sweep) is None
        assert [steer(session, "b", sweep) for steer in (sweeps.cancel, sweeps.pause, sweeps.resume)] == [0, 0, 0]
        assert sweeps.jobs_of(session, "b", sweep) == []
        assert sweeps.counts(session, "b", [sweep]) == {sweep: {}}
    assert len(claimed(database)) == 1
    assert len(mine) == 2


def test_a_sweep_goes_with_the_last_row_of_its_jobs(database: Database) -> None:
    sweep, mine = sweep_of(database, 2, at_once=None)
    other, _ = sweep_of(database, 1, at_once=None)
    with database.write() as session:
        assert not sweeps.remove(session, DEFAULT_TENANT, sweep)
        assert sweeps.cancel(session, DEFAULT_TENANT, sweep) == 2
        assert sweeps.remove(session, DEFAULT_TENANT, sweep)
    _bury(database, mine[:1])
    settings = Settings(tombstone_seconds=60)
    retention.expire(database, settings)
    assert _left(database) == {sweep, other}
    _bury(database, mine[1:])
    retention.expire(database, settings)
    assert _left(database) == {other}


def _bury(database: Database, job_ids: Sequence[str]) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id.in_(job_ids)).values(deleted_at=now(plus=-LEASE_SECONDS)))


def _left(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Sweep.id)))
