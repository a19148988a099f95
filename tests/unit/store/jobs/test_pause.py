"""Pausing and resuming: every arrow, and every arrow that must not exist, on SQLite and PostgreSQL."""

from collections.abc import Callable

import pytest
from sqlalchemy import update

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import StateChanged, Warned
from store.database.connection import Database
from store.database.tables import Job
from store.jobs import transitions
from store.jobs.transitions import Lease, LeaseLost
from tests.support.jobs.job_transitions import (
    CAP,
    CRASH,
    cancel,
    claim,
    commit,
    crash,
    expire,
    load,
    pause,
    release,
    resume,
    running,
    submit,
    succeed,
    sweep,
    told,
    wakes,
)

QUEUED, RUNNING, PAUSED = (StateChanged(state=state) for state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED))
PAUSED_AT_ONCE = StateChanged(state=JobState.PAUSED, detail="pause requested")
PAUSE_TO_COME = StateChanged(state=JobState.RUNNING, detail="pause requested")
QUEUED_AGAIN = StateChanged(state=JobState.QUEUED, detail="resumed")
RUNS_ON = StateChanged(state=JobState.RUNNING, detail="resumed")


def to_be_paused(database: Database, failures: int = 0) -> Lease:
    """A running job that is to stop after its step."""
    lease = running(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == lease.job_id).values(failures=failures))
    assert pause(database, lease.job_id).pause_requested
    return lease


def assert_at_rest(job: Job, state: JobState) -> None:
    assert job.state is state
    assert (job.lease_until, job.phase, job.progress, job.pause_requested) == (None, None, None, False)
    assert (job.finished_at is None) is (state is JobState.PAUSED)


def test_a_queued_job_is_paused_at_once(database: Database) -> None:
    job_id = submit(database)
    assert_at_rest(pause(database, job_id), JobState.PAUSED)
    assert_at_rest(load(database, job_id), JobState.PAUSED)
    assert claim(database) is None
    assert told(database, job_id) == [QUEUED, PAUSED_AT_ONCE]
    assert wakes(database) == 1  # that of its submission


def test_a_running_job_runs_on_until_its_step_is_committed(database: Database) -> None:
    lease = running(database)
    lease_until = load(database, lease.job_id).lease_until
    job = pause(database, lease.job_id)
    assert (job.state, job.pause_requested, job.lease_until) == (JobState.RUNNING, True, lease_until)
    with database.write() as session:
        assert transitions.renew(session, lease, 60) is JobState.RUNNING
    job = commit(database, lease, 0)
    assert (job.state, job.pause_requested, job.last_step) == (JobState.RUNNING, True, 0)
    woken = wakes(database)
    assert release(database, lease) is JobState.PAUSED
    job = load(database, lease.job_id)
    assert_at_rest(job, JobState.PAUSED)
    assert (job.failures, job.last_step) == (0, 0)
    assert claim(database) is None
    assert wakes(database) == woken
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME, PAUSED]


def test_a_crash_pauses_where_that_was_asked_for_and_counts(database: Database) -> None:
    lease = to_be_paused(database)
    assert crash(database, lease) is JobState.PAUSED
    job = load(database, lease.job_id)
    assert_at_rest(job, JobState.PAUSED)
    assert (job.failures, job.error) == (1, None)
    warned = Warned(code=CRASH.code, detail=CRASH.detail)
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME, warned, PAUSED]
    assert claim(database) is None


def test_a_crash_at_the_cap_fails_the_job_all_the_same(database: Database) -> None:
    lease = to_be_paused(database, failures=CAP - 1)
    assert crash(database, lease) is JobState.FAILED
    job = load(database, lease.job_id)
    assert_at_rest(job, JobState.FAILED)
    assert (job.failures, job.error) == (CAP, CRASH)
    assert told(database, lease.job_id)[-1] == StateChanged(state=JobState.FAILED, detail=CRASH.detail)


def test_a_lost_job_that_was_to_be_paused_is_the_sweepers(database: Database) -> None:
    lease = to_be_paused(database)
    assert sweep(database) == 0
    expire(database, lease.job_id)
    assert claim(database) is None
    assert sweep(database) == 1
    assert sweep(database) == 0
    job = load(database, lease.job_id)
    assert_at_rest(job, JobState.PAUSED)
    assert (job.failures, job.epoch) == (1, lease.epoch)
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME, PAUSED]
    with pytest.raises(LeaseLost):
        commit(database, lease, 0)


def test_a_lost_job_at_the_cap_fails_all_the_same(database: Database) -> None:
    lease = to_be_paused(database, failures=CAP - 1)
    expire(database, lease.job_id)
    assert claim(database) is None
    assert sweep(database) == 1
    job = load(database, lease.job_id)
    assert_at_rest(job, JobState.FAILED)
    assert (job.failures, job.error) == (CAP, transitions.WORKER_LOST)


def test_a_resumed_job_is_queued_wakes_somebody_and_goes_on_after_its_last_step(database: Database) -> None:
    lease = to_be_paused(database)
    commit(database, lease, 0)
    release(database, lease)
    woken = wakes(database)
    assert resume(database, lease.job_id).state is JobState.QUEUED
    assert wakes(database) == woken + 1
    assert told(database, lease.job_id)[-1] == QUEUED_AGAIN
    again = claim(database, "b")
    assert again == Lease(lease.job_id, lease.epoch + 1)
    job = load(database, lease.job_id)
    assert (job.pause_requested, job.last_step, job.failures) == (False, 0, 0)
    assert commit(database, again, 1).pause_requested is False


def test_a_pause_does_not_shorten_the_wait_after_a_crash(database: Database) -> None:
    lease = running(database)
    assert crash(database, lease, delay=600) is JobState.QUEUED
    due = load(database, lease.job_id).available_at
    pause(database, lease.job_id)
    resume(database, lease.job_id)
    assert due is not None
    assert load(database, lease.job_id).available_at == due
    assert claim(database) is None


@pytest.mark.parametrize("end", [release, crash])
def test_resuming_a_running_job_takes_the_pause_back(
    database: Database, end: Callable[[Database, Lease], JobState]
) -> None:
    lease = to_be_paused(database)
    woken = wakes(database)
    job = resume(database, lease.job_id)
    assert (job.state, job.pause_requested) == (JobState.RUNNING, False)
    assert wakes(database) == woken
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME, RUNS_ON]
    assert commit(database, lease, 0).pause_requested is False
    assert end(database, lease) is JobState.QUEUED


def test_a_lost_job_whose_pause_was_taken_back_can_be_claimed(database: Database) -> None:
    lease = to_be_paused(database)
    resume(database, lease.job_id)
    expire(database, lease.job_id)
    assert sweep(database) == 0
    assert claim(database, "b") == Lease(lease.job_id, lease.epoch + 1)


def test_asking_twice_changes_nothing(database: Database) -> None:
    queued = submit(database)
    woken = wakes(database)
    assert resume(database, queued).state is JobState.QUEUED
    assert pause(database, queued).state is JobState.PAUSED
    assert pause(database, queued).state is JobState.PAUSED
    assert told(database, queued) == [QUEUED, PAUSED_AT_ONCE]
    assert wakes(database) == woken
    lease = to_be_paused(database)
    job = pause(database, lease.job_id)
    assert (job.state, job.pause_requested) == (JobState.RUNNING, True)
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME]
    for _ in range(2):
        job = resume(database, lease.job_id)
        assert (job.state, job.pause_requested) == (JobState.RUNNING, False)
    assert told(database, lease.job_id) == [QUEUED, RUNNING, PAUSE_TO_COME, RUNS_ON]


def test_cancelling_a_paused_job_ends_it(database: Database) -> None:
    job_id = submit(database)
    pause(database, job_id)
    assert_at_rest(cancel(database, job_id), JobState.CANCELLED)
    assert claim(database) is None
    assert told(database, job_id) == [QUEUED, PAUSED_AT_ONCE, StateChanged(state=JobState.CANCELLED)]


def _confirm(database: Database, lease: Lease) -> None:
    with database.write() as session:
        transitions.confirm_cancel(session, lease)


def _lose(database: Database, lease: Lease) -> None:
    expire(database, lease.job_id)
    assert sweep(database) == 1


@pytest.mark.parametrize("end", [release, crash, _confirm, _lose])
def test_a_cancel_wins_over_a_pause_to_come(database: Database, end: Callable[[Database, Lease], object]) -> None:
    lease = to_be_paused(database)
    assert cancel(database, lease.job_id).state is JobState.CANCELLING
    end(database, lease)
    assert_at_rest(load(database, lease.job_id), JobState.CANCELLED)


def _fail(database: Database, lease: Lease) -> None:
    with database.write() as session:
        transitions.fail(session, lease, CRASH)


@pytest.mark.parametrize(("end", "state"), [(succeed, JobState.SUCCEEDED), (_fail, JobState.FAILED)])
def test_a_job_that_ends_before_its_pause_has_ended(
    database: Database, end: Callable[[Database, Lease], None], state: JobState
) -> None:
    lease = to_be_paused(database)
    end(database, lease)
    assert_at_rest(load(database, lease.job_id), state)


@pytest.mark.parametrize("ask", [pause, resume])
@pytest.mark.parametrize("state", [JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ends_or_has_ended_takes_no_such_wish(
    database: Database, state: JobState, ask: Callable[[Database, str], Job]
) -> None:
    lease = running(database)
    if state in (JobState.CANCELLING, JobState.CANCELLED):
        cancel(database, lease.job_id)
    ends = {JobState.SUCCEEDED: succeed, JobState.FAILED: _fail, JobState.CANCELLED: release}
    if state in ends:
        ends[state](database, lease)
    before = told(database, lease.job_id)
    with pytest.raises(SecateurError) as refused:
        ask(database, lease.job_id)
    assert refused.value.code is ErrorCode.CONFLICT
    job = load(database, lease.job_id)
    assert (job.state, job.pause_requested) == (state, False)
    assert told(database, lease.job_id) == before


@pytest.mark.parametrize("ask", [pause, resume])
def test_nobody_pauses_or_resumes_what_is_not_theirs(database: Database, ask: Callable[..., Job]) -> None:
    lease = running(database)
    pause(database, lease.job_id)
    queued = submit(database)
    for job_id, tenant in ((lease.job_id, "other"), (queued, "other"), ("job_none", "default")):
        with pytest.raises(SecateurError) as refused:
            ask(database, job_id, tenant)
        assert refused.value.code is ErrorCode.NOT_FOUND
    assert load(database, lease.job_id).pause_requested
    assert load(database, queued).state is JobState.QUEUED
