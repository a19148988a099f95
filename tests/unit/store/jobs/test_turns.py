"""Whose turn it is: priority, then the tenant with fewer running jobs, then the one that waited longer, then age."""

import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select, update

from api_schemas import ids
from api_schemas.enums import JobState
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, TenantTurn
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from tests.support.jobs.job_transitions import (
    CAP,
    LEASE_SECONDS,
    cancel,
    claim,
    commit,
    expire,
    load,
    pause,
    release,
    submit,
    succeed,
)
from tests.support.jobs.records import job_request

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def queue(database: Database, tenants: Iterable[str], priority: int = 0) -> list[str]:
    """A job for each of `tenants`, a second apart, the first one the oldest."""
    found = [submit(database, tenant, priority) for tenant in tenants]
    with database.write() as session:
        for age, job_id in enumerate(found):
            made = LONG_AGO + timedelta(seconds=age)
            session.execute(update(Job).where(Job.id == job_id).values(created_at=made))
    return found


def begin(database: Database) -> Lease:
    """Claim the next job; all earlier claims are a second further away, since a clock may count in milliseconds."""
    with database.write() as session:
        for turn in session.scalars(select(TenantTurn)):
            turn.begun_at -= timedelta(seconds=1)
    lease = claim(database)
    assert lease is not None
    return lease


def owner(database: Database, lease: Lease) -> str:
    return load(database, lease.job_id).tenant


def owners(database: Database, count: int) -> list[str]:
    """Whose jobs one worker runs, one after the other."""
    found = []
    for _ in range(count):
        lease = begin(database)
        found.append(owner(database, lease))
        succeed(database, lease)
    return found


def test_priority_comes_before_everything_else(database: Database) -> None:
    queue(database, ["busy"])
    begin(database)
    plain, urgent = queue(database, ["idle", "busy"])
    with database.write() as session:
        session.execute(update(Job).where(Job.id == urgent).values(priority=1))
    assert [begin(database).job_id, begin(database).job_id] == [urgent, plain]


def test_then_the_tenant_with_fewer_running_jobs(database: Database) -> None:
    queue(database, ["a", "b"])
    begin(database)
    succeed(database, begin(database))
    # b was served after a and its job is the younger one, but a has one running.
    queue(database, ["a", "b"])
    assert [owner(database, begin(database)) for _ in range(2)] == ["b", "a"]


def test_a_job_that_is_being_cancelled_still_counts_as_running(database: Database) -> None:
    queue(database, ["a", "b"])
    cancel(database, begin(database).job_id, "a")
    succeed(database, begin(database))
    queue(database, ["a", "b"])
    assert owner(database, begin(database)) == "b"


def test_a_job_whose_worker_is_gone_does_not_count_as_running(database: Database) -> None:
    queue(database, ["b", "a"])
    begin(database)
    lost = begin(database)
    pause(database, lost.job_id, "a")  # so that nobody claims it before the sweeper has seen it
    expire(database, lost.job_id)
    queue(database, ["b", "a"])
    assert load(database, lost.job_id).state is JobState.RUNNING
    # a was served after b and its job is the younger one, but only b has one running.
    assert owner(database, begin(database)) == "a"


def test_a_lost_job_takes_its_turn_like_any_other(database: Database) -> None:
    (lost,) = queue(database, ["a"])
    begin(database)
    expire(database, lost)
    waiting, second = queue(database, ["b", "a"])
    # b never had a turn; then a and b have none and one running, and the lost job is a's older one.
    with database.write() as session:
        session.execute(update(Job).where(Job.id == second).values(created_at=LONG_AGO + timedelta(hours=1)))
    assert [begin(database).job_id for _ in range(3)] == [waiting, lost, second]


def test_then_the_tenant_that_waited_longer(database: Database) -> None:
    queue(database, ["a", "b", "c"])
    assert owners(database, 3) == ["a", "b", "c"]
    queue(database, ["c", "b", "a", "new"])
    assert owners(database, 4) == ["new", "a", "b", "c"]


def test_what_counts_is_the_last_claim_not_its_end(database: Database) -> None:
    queue(database, ["a", "b"])
    first, second = begin(database), begin(database)
    succeed(database, second)
    succeed(database, first)
    queue(database, ["b", "a"])
    assert owners(database, 2) == ["a", "b"]


def test_then_age(database: Database) -> None:
    found = queue(database, ["a"] * 4)
    assert [begin(database).job_id for _ in found] == found


def test_a_released_job_lines_up_again_behind_other_tenants(database: Database) -> None:
    queue(database, ["a", "b"])
    lease = begin(database)
    assert owner(database, lease) == "a"
    release(database, lease)
    assert owners(database, 2) == ["b", "a"]


def test_fifty_jobs_of_one_tenant_do_not_hold_up_the_one_of_another(database: Database) -> None:
    queue(database, ["many"] * 50 + ["one"])
    assert owners(database, 2) == ["many", "one"]


def test_one_worker_serves_two_tenants_in_turn(database: Database) -> None:
    queue(database, ["a"] * 5 + ["b"] * 5)
    assert owners(database, 10) == ["a", "b"] * 5


def test_two_workers_serve_two_tenants_at_once(database: Database) -> None:
    queue(database, ["a"] * 4 + ["b"] * 4)
    for _ in range(4):
        pair = [begin(database), begin(database)]
        assert {owner(database, lease) for lease in pair} == {"a", "b"}
        for lease in pair:
            commit(database, lease, 0)
            succeed(database, lease)


def test_a_tenant_alone_may_have_every_worker(database: Database) -> None:
    queue(database, ["a"] * 5)
    assert [owner(database, begin(database)) for _ in range(5)] == ["a"] * 5


def test_two_that_claim_at_the_same_moment_get_different_jobs(postgres_database: Database) -> None:
    best, next_best = queue(postgres_database, ["a", "b"])
    with postgres_database.write() as session:
        held = transitions.claim(session, "slow", LEASE_SECONDS, CAP)
        assert held is not None
        # The first transaction is still open: the second claimer neither waits for its row nor takes it.
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(claim, postgres_database, "quick").result(timeout=20)
    assert other is not None
    assert (held.id, other.job_id) == (best, next_best)
    assert claim(postgres_database) is None


def test_claimers_that_come_at_once_share_the_tenants_jobs_out(database: Database) -> None:
    queue(database, ["a", "b", "c"] * 4)
    start = threading.Barrier(3)

    def claim_all(worker: int) -> list[str]:
        start.wait()
        mine = []
        while lease := claim(database, str(worker)):
            mine.append(lease.job_id)
        return mine

    with ThreadPoolExecutor(3) as pool:
        claimed = Counter(job_id for mine in pool.map(claim_all, range(3)) for job_id in mine)
    assert len(claimed) == 12
    assert set(claimed.values()) == {1}


def test_a_long_queue_of_many_tenants_is_served_in_order(database: Database) -> None:
    tenants = 20
    request = job_request()
    rows = [
        {
            "id": ids.new_id(ids.JOB),
            "tenant": f"t{number % tenants}",
            "request": request,
            "lineage": {},
            "state": JobState.QUEUED,
            "created_at": LONG_AGO + timedelta(seconds=number),
        }
        for number in range(2000)
    ]
    with database.write() as session:
        session.execute(insert(Job), rows)
    with database.read() as session:
        assert jobs.count_claimable(session, CAP) == 2000
    # Every tenant's oldest, each tenant once; and then every tenant's second.
    assert [begin(database).job_id for _ in range(2 * tenants)] == [row["id"] for row in rows[: 2 * tenants]]
    with database.write() as session:
        session.execute(update(Job).where(Job.id == rows[-1]["id"]).values(priority=1))
        session.execute(update(Job).where(Job.id == rows[-2]["id"]).values(priority=2, available_at=now(plus=600)))
    assert begin(database).job_id == rows[-1]["id"]
