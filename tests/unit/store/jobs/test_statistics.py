"""The operator's numbers, of jobs that are moved through their lives."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from api_schemas.api.resources import JobError
from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode
from api_schemas.results.events import PhaseChanged
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, JobEventRow
from store.jobs import jobs, statistics, transitions
from store.jobs.transitions import Lease
from tests.support.jobs.records import job_request

CRASHED = JobError(code=ErrorCode.ENGINE_CRASHED, detail="it died")


def begin(database: Database) -> Lease:
    with database.write() as session:
        jobs.create(session, "a", job_request(), {})
        job = transitions.claim(session, "worker", 60, 3)
        assert job is not None
        return Lease(job.id, job.epoch)


def read(database: Database) -> statistics.Statistics:
    with database.read() as session:
        return statistics.read(session)


def test_an_empty_service(database: Database) -> None:
    found = read(database)
    assert (found.queued, found.oldest_queued_seconds, found.stored_bytes) == (0, 0.0, 0)
    assert set(found.jobs_by_state.values()) == {0.0}
    assert found.failures_by_code == found.phase_seconds == {}


def test_the_queue_and_its_age(database: Database) -> None:
    with database.write() as session:
        old = jobs.create(session, "a", job_request(), {}).id
        jobs.create(session, "b", job_request(), {})
        session.execute(update(Job).where(Job.id == old).values(created_at=now(plus=-90)))
    found = read(database)
    assert found.queued == found.jobs_by_state["queued"] == 2
    assert 90 <= found.oldest_queued_seconds < 150


def test_phases_last_until_the_next_one_or_the_end_of_the_attempt(database: Database) -> None:
    lease = begin(database)
    phases = [PhaseChanged(phase=phase, step=0, steps=1) for phase in (Phase.SCORING, Phase.PRUNING)]
    with database.write() as session:
        transitions.record(session, lease, phases)
        transitions.crash(session, lease, CRASHED, failure_cap=3, retry_delay_seconds=0)
        start = session.scalars(select(JobEventRow.created_at).where(JobEventRow.seq == 1)).one()
        # queued, running, scoring at 10, pruning at 15, the warning at 40, queued again at 45
        for seq, seconds in ((3, 10), (4, 15), (5, 40), (6, 45)):
            session.execute(
                update(JobEventRow).where(JobEventRow.seq == seq).values(created_at=start + timedelta(seconds=seconds))
            )
    found = read(database)
    assert found.phase_seconds == pytest.approx({"scoring": 5.0, "pruning": 30.0})
    assert found.phase_times == {"scoring": 1.0, "pruning": 1.0}
    assert found.crashes_by_code == {"engine_crashed": 1.0}
    assert found.failures_by_code == {}


def test_failures_by_code(database: Database) -> None:
    for code in (ErrorCode.LABELS_MISMATCH, ErrorCode.OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY):
        lease = begin(database)
        with database.write() as session:
            transitions.fail(session, lease, JobError(code=code, detail="so it is"))
    found = read(database)
    assert found.failures_by_code == {"labels_mismatch": 1.0, "out_of_memory": 2.0}
    assert found.jobs_by_state["failed"] == 3
