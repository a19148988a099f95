"""The moves of a job's life, each in a transaction of its own; leases are long, and run out only where a test says so."""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from api_schemas.api.resources import JobError
from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from api_schemas.results.events import JobEventBody
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, JobEventRow, OutboxMessage
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from store.jobs.workers.capabilities import ANY, NOTHING, Capability, Needs
from tests.support.jobs.records import job_request, step_file, step_metrics

CAP = 3
LEASE_SECONDS = 3600.0
CRASH = JobError(code=ErrorCode.ENGINE_CRASHED, detail="it crashed")


def submit(database: Database, tenant: str = DEFAULT_TENANT, priority: int = 0, needs: Needs = NOTHING) -> str:
    with database.write() as session:
        return jobs.create(session, tenant, job_request(priority=priority), {}, needs=needs).id


def claim(database: Database, worker: str = "a", has: Capability = ANY) -> Lease | None:
    with database.write() as session:
        job = transitions.claim(session, worker, LEASE_SECONDS, CAP, has=has)
        return Lease(job.id, job.epoch) if job else None


def running(database: Database, tenant: str = DEFAULT_TENANT) -> Lease:
    """A job that has just been claimed; there must be no other to claim."""
    job_id = submit(database, tenant)
    lease = claim(database)
    assert lease is not None
    assert lease.job_id == job_id
    return lease


def expire(database: Database, job_id: str) -> None:
    """Its worker has not been heard of for longer than a lease."""
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(plus=-LEASE_SECONDS)))


def commit(database: Database, lease: Lease, step: int) -> Job:
    with database.write() as session:
        files = [step_file(lease.job_id, step)]
        return transitions.commit_step(session, lease, step_metrics(step), files, downloadable=step > 0)


def crash(database: Database, lease: Lease, delay: float = 0) -> JobState:
    with database.write() as session:
        return transitions.crash(session, lease, CRASH, failure_cap=CAP, retry_delay_seconds=delay)


def release(database: Database, lease: Lease) -> JobState:
    with database.write() as session:
        return transitions.release(session, lease)


def hand_back(database: Database, workers: Sequence[str], *, planned: bool = False) -> int:
    with database.write() as session:
        return transitions.hand_back(session, workers, CAP, planned=planned)


def succeed(database: Database, lease: Lease) -> None:
    with database.write() as session:
        transitions.succeed(session, lease)


def cancel(database: Database, job_id: str, tenant: str = DEFAULT_TENANT) -> Job:
    with database.write() as session:
        return transitions.cancel(session, tenant, job_id)


def pause(database: Database, job_id: str, tenant: str = DEFAULT_TENANT) -> Job:
    with database.write() as session:
        return transitions.pause(session, tenant, job_id)


def resume(database: Database, job_id: str, tenant: str = DEFAULT_TENANT) -> Job:
    with database.write() as session:
        return transitions.resume(session, tenant, job_id)


def sweep(database: Database) -> int:
    with database.write() as session:
        return transitions.sweep(session, CAP)


def load(database: Database, job_id: str) -> Job:
    """Whoever's it is."""
    with database.read() as session:
        return session.get_one(Job, job_id)


def told(database: Database, job_id: str) -> Sequence[JobEventBody]:
    """All events of a job, which must be numbered from 1 without gaps."""
    with database.read() as session:
        rows = session.scalars(select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.seq)).all()
        last = session.get_one(Job, job_id).last_seq
    assert [row.seq for row in rows] == list(range(1, last + 1))
    return [row.body for row in rows]


def wakes(database: Database) -> int:
    """How many messages wait for the broker."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0
