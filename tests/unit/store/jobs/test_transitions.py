"""Every arrow of docs/states.md, and every arrow that must not exist, on SQLite and PostgreSQL."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import JobState, Phase, StopReason
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import Finished, Loss, StateChanged, Warned
from api_schemas.results.metrics import JobResult
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, OutboxMessage
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import job_lists, jobs, transitions
from store.jobs.transitions import Lease, LeaseLost
from tests.support.jobs.records import job_request, step_file, step_metrics

CAP = 3
RESULT = JobResult(step=0, stopped=StopReason.MAX_DROP, detail="step 1 fell too far", test=step_metrics(0).validation)
CRASH = JobError(code=ErrorCode.ENGINE_CRASHED, detail="it crashed")


def submit(database: Database) -> str:
    with database.write() as session:
        return jobs.create(session, DEFAULT_TENANT, job_request(), {}).id


def claim(database: Database, worker: str = "a") -> Lease | None:
    with database.write() as session:
        job = transitions.claim(session, worker, lease_seconds=60, failure_cap=CAP)
        return Lease(job.id, job.epoch) if job else None


def running(database: Database) -> Lease:
    submit(database)
    lease = claim(database)
    assert lease is not None
    return lease


def load(database: Database, job_id: str) -> Job:
    with database.read() as session:
        job = jobs.get(session, DEFAULT_TENANT, job_id)
    assert job is not None
    return job


def expire(database: Database, job_id: str) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(plus=-1)))


def crash(database: Database, lease: Lease, delay: float = 0) -> JobState:
    with database.write() as session:
        return transitions.crash(session, lease, CRASH, failure_cap=CAP, retry_delay_seconds=delay)


def commit(database: Database, lease: Lease, step: int) -> None:
    with database.write() as session:
        files = [step_file(lease.job_id, step)]
        transitions.commit_step(session, lease, step_metrics(step), files, downloadable=step > 0)


def states(database: Database, job_id: str) -> list[str]:
    with database.read() as session:
        events = jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 100)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.body.state.value for event in events if isinstance(event.body, StateChanged)]


def wakes(database: Database) -> int:
    with database.read() as session:
        return session.query(OutboxMessage).count()


def test_a_submitted_job_is_queued_with_its_event_and_its_wake(database: Database) -> None:
    job = load(database, submit(database))
    assert job.state is JobState.QUEUED
    assert (job.epoch, job.failures, job.attempts) == (0, 0, 0)
    assert job.created_at.tzinfo is not None
    assert states(database, job.id) == ["queued"]
    assert wakes(database) == 1


def test_a_submit_that_is_rolled_back_leaves_nothing(database: Database) -> None:
    def submit_and_raise() -> None:
        with database.write() as session:
            jobs.create(session, DEFAULT_TENANT, job_request(), {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_and_raise()
    with database.read() as session:
        assert job_lists.page(session, DEFAULT_TENANT, None, 10).items == []
    assert wakes(database) == 0


def test_a_claim_raises_the_epoch_and_starts_a_lease(database: Database) -> None:
    lease = running(database)
    job = load(database, lease.job_id)
    assert (job.state, job.epoch, job.worker, job.phase) == (JobState.RUNNING, 1, "a", Phase.STARTING)
    assert job.started_at is not None
    assert job.lease_until is not None
    assert 59 <= (job.lease_until - job.started_at).total_seconds() <= 61
    assert claim(database, "b") is None


def test_claims_go_by_priority_and_then_by_age(database: Database) -> None:
    first, second, urgent = submit(database), submit(database), submit(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == urgent).values(priority=1))
        session.execute(update(Job).where(Job.id == first).values(created_at=now(plus=-2)))
        session.execute(update(Job).where(Job.id == second).values(created_at=now(plus=-1)))
    order = [claim(database), claim(database), claim(database)]
    assert [lease and lease.job_id for lease in order] == [urgent, first, second]
    assert claim(database) is None


def test_concurrent_claimers_never_get_the_same_job(database: Database) -> None:
    count = 24
    for _ in range(count):
        submit(database)
    start = threading.Barrier(4)

    def claim_all(worker: int) -> list[str]:
        start.wait()
        mine = []
        while lease := claim(database, str(worker)):
            mine.append(lease.job_id)
        return mine

    with ThreadPoolExecutor(4) as pool:
        claimed = Counter(job_id for mine in pool.map(claim_all, range(4)) for job_id in mine)
    assert len(claimed) == count
    assert set(claimed.values()) == {1}


def test_an_expired_lease_is_claimed_again_and_counts_as_a_failure(database: Database) -> None:
    old = running(database)
    expire(database, old.job_id)
    new = claim(database, "b")
    assert new == Lease(old.job_id, old.epoch + 1)
    assert load(database, old.job_id).failures == 1


def _writes() -> list[tuple[str, Callable[[Database, Lease], object]]]:
    def inside(
        action: Callable[..., object], *arguments: object, **named: object
    ) -> Callable[[Database, Lease], object]:
        def run(database: Database, lease: Lease) -> object:
            with database.write() as session:
                return action(session, lease, *arguments, **named)

        return run

    return [
        ("renew", inside(transitions.renew, 60)),
        ("record", inside(transitions.record, [Finished(steps=1)])),
        ("commit_step", lambda database, lease: commit(database, lease, 0)),
        ("succeed", inside(transitions.succeed)),
        ("fail", inside(transitions.fail, CRASH)),
        ("crash", lambda database, lease: crash(database, lease)),
        ("release", inside(transitions.release)),
        ("confirm_cancel", inside(transitions.confirm_cancel)),
    ]


@pytest.mark.parametrize("write", [write for _, write in _writes()], ids=[name for name, _ in _writes()])
def test_writes_under_an_old_epoch_are_refused(
    sqlite_database: Database, postgres_database: Database, write: Callable[[Database, Lease], object]
) -> None:
    for database in (sqlite_database, postgres_database):
        zombie = running(database)
        expire(database, zombie.job_id)
        assert claim(database, "b") is not None
        before = load(database, zombie.job_id)
        with pytest.raises(LeaseLost):
            write(database, zombie)
        after = load(database, zombie.job_id)
        assert (after.state, after.last_seq, after.lease_until) == (before.state, before.last_seq, before.lease_until)


@pytest.mark.parametrize("write", [write for _, write in _writes()], ids=[name for name, _ in _writes()])
def test_nothing_is_written_to_a_job_that_has_ended(
    sqlite_database: Database, write: Callable[[Database, Lease], object]
) -> None:
    lease = running(sqlite_database)
    with sqlite_database.write() as session:
        transitions.succeed(session, lease)
    before = load(sqlite_database, lease.job_id)
    with pytest.raises(LeaseLost):
        write(sqlite_database, lease)
    assert load(sqlite_database, lease.job_id).last_seq == before.last_seq


def test_a_renewal_shows_progress_and_says_when_to_stop(database: Database) -> None:
    lease = running(database)
    progress = JobProgress(phase=Phase.SCORING, step=1, steps=2, done=3, total=4, fraction=0.25, eta_seconds=9.5)
    with database.write() as session:
        assert transitions.renew(session, lease, 60, progress) is JobState.RUNNING
    job = load(database, lease.job_id)
    assert (job.progress, job.phase) == (progress, Phase.SCORING)
    with database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, lease.job_id)
    with database.write() as session:
        assert transitions.renew(session, lease, 60) is JobState.CANCELLING
    assert load(database, lease.job_id).progress == progress


def test_events_are_numbered_without_gaps(database: Database) -> None:
    lease = running(database)
    losses = [Loss(step=1, epoch=epoch, epochs=3, train_loss=0.1) for epoch in (1, 2, 3)]
    with database.write() as session:
        transitions.record(session, lease, losses[:2], phase=Phase.FINETUNING)
    with database.write() as session:
        transitions.record(session, lease, losses[2:])
    with database.read() as session:
        events = jobs.events_after(session, DEFAULT_TENANT, lease.job_id, 2, 100)
    assert [(event.seq, event.body) for event in events] == [(3, losses[0]), (4, losses[1]), (5, losses[2])]
    assert load(database, lease.job_id).phase is Phase.FINETUNING


def test_a_committed_step_is_there_with_its_files_and_clears_the_failures(database: Database) -> None:
    first = running(database)
    assert crash(database, first) is JobState.QUEUED
    lease = claim(database)
    assert lease is not None
    assert load(database, lease.job_id).failures == 1
    commit(database, lease, 0)
    commit(database, lease, 1)
    job = load(database, lease.job_id)
    assert (job.failures, job.last_step) == (0, 1)
    with database.read() as session:
        steps = jobs.steps(session, DEFAULT_TENANT, job.id)
        assert [(step.step, step.downloadable, step.epoch) for step in steps] == [(0, False, 2), (1, True, 2)]
        assert steps[1].metrics == step_metrics(1)
        assert [file.name for file in steps[1].files] == ["model.safetensors"]


@pytest.mark.parametrize("step", [0, 2])
def test_steps_come_in_order_and_once(database: Database, step: int) -> None:
    lease = running(database)
    commit(database, lease, 0)
    with pytest.raises(LeaseLost):
        commit(database, lease, step)
    with database.read() as session:
        assert [row.step for row in jobs.steps(session, DEFAULT_TENANT, lease.job_id)] == [0]


def test_success_ends_the_job(database: Database) -> None:
    lease = running(database)
    with database.write() as session:
        transitions.succeed(session, lease, [Finished(steps=1)], result=RESULT)
    job = load(database, lease.job_id)
    assert (job.state, job.lease_until, job.phase, job.result) == (JobState.SUCCEEDED, None, None, RESULT)
    assert job.finished_at is not None
    assert states(database, job.id) == ["queued", "running", "succeeded"]


def test_failure_keeps_its_error(database: Database) -> None:
    lease = running(database)
    error = JobError(code=ErrorCode.LABELS_MISMATCH, detail="they do not match")
    with database.write() as session:
        transitions.fail(session, lease, error)
    job = load(database, lease.job_id)
    assert (job.state, job.error) == (JobState.FAILED, error)


def test_crashes_are_tried_again_up_to_the_cap(database: Database) -> None:
    job_id = submit(database)
    for attempt in range(1, CAP + 1):
        lease = claim(database)
        assert lease is not None
        expected = JobState.FAILED if attempt == CAP else JobState.QUEUED
        assert crash(database, lease) is expected
    job = load(database, job_id)
    assert (job.failures, job.error, job.attempts) == (CAP, CRASH, CAP)
    assert claim(database) is None
    with database.read() as session:
        said = [
            event.body
            for event in jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 100)
            if event.body.type == "warning"
        ]
    assert said == [Warned(code=CRASH.code, detail=CRASH.detail)] * CAP


def test_a_crashed_job_waits_before_it_is_tried_again(database: Database) -> None:
    lease = running(database)
    assert crash(database, lease, delay=600) is JobState.QUEUED
    assert claim(database) is None
    job = load(database, lease.job_id)
    assert job.error is None
    assert job.available_at is not None
    with database.write() as session:
        session.execute(update(Job).values(available_at=now(plus=-1)))
    assert claim(database) is not None


@pytest.mark.parametrize(("failures", "times"), [(0, 1), (1, 2), (5, 32), (6, 64), (7, 64), (1000, 64)])
def test_the_wait_doubles_but_not_for_ever(database: Database, failures: int, times: int) -> None:
    lease = running(database)
    with database.write() as session:
        session.execute(update(Job).values(failures=failures, started_at=now()))
        transitions.crash(session, lease, CRASH, failure_cap=2000, retry_delay_seconds=100)
    job = load(database, lease.job_id)
    assert job.available_at is not None
    assert job.started_at is not None
    assert 0 <= (job.available_at - job.started_at).total_seconds() - 100 * times < 4


def test_a_released_job_is_queued_without_a_failure_and_wakes_somebody(database: Database) -> None:
    lease = running(database)
    before = wakes(database)
    with database.write() as session:
        assert transitions.release(session, lease) is JobState.QUEUED
    job = load(database, lease.job_id)
    assert (job.state, job.failures, job.finished_at) == (JobState.QUEUED, 0, None)
    assert wakes(database) == before + 1
    assert claim(database) == Lease(lease.job_id, 2)


def test_cancelling_a_queued_job_ends_it(database: Database) -> None:
    job_id = submit(database)
    with database.write() as session:
        assert transitions.cancel(session, DEFAULT_TENANT, job_id).state is JobState.CANCELLED
    assert load(database, job_id).finished_at is not None
    assert claim(database) is None


def test_cancelling_a_running_job_takes_two_phases(database: Database) -> None:
    lease = running(database)
    with database.write() as session:
        assert transitions.cancel(session, DEFAULT_TENANT, lease.job_id).state is JobState.CANCELLING
    with database.write() as session:
        assert transitions.cancel(session, DEFAULT_TENANT, lease.job_id).state is JobState.CANCELLING
    assert load(database, lease.job_id).finished_at is None
    with pytest.raises(LeaseLost):
        commit(database, lease, 0)
    with database.write() as session:
        transitions.confirm_cancel(session, lease)
    assert states(database, lease.job_id) == ["queued", "running", "cancelling", "cancelled"]
    assert load(database, lease.job_id).finished_at is not None


@pytest.mark.parametrize("end", ["crash", "release"])
def test_a_cancelled_job_is_never_queued_again(database: Database, end: str) -> None:
    lease = running(database)
    with database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, lease.job_id)
    if end == "crash":
        assert crash(database, lease) is JobState.CANCELLED
    else:
        with database.write() as session:
            assert transitions.release(session, lease) is JobState.CANCELLED
    job = load(database, lease.job_id)
    assert (job.error, job.available_at) == (None, None)
    assert job.finished_at is not None
    assert claim(database) is None


def test_a_job_that_has_ended_cannot_be_cancelled(database: Database) -> None:
    lease = running(database)
    with database.write() as session:
        transitions.succeed(session, lease)
    with pytest.raises(SecateurError) as refused, database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, lease.job_id)
    assert refused.value.code is ErrorCode.CONFLICT
    with pytest.raises(SecateurError) as unknown, database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, "job_none")
    assert unknown.value.code is ErrorCode.NOT_FOUND


def test_another_tenant_cannot_see_or_cancel(database: Database) -> None:
    job_id = submit(database)
    with database.read() as session:
        assert jobs.get(session, "other", job_id) is None
        assert job_lists.page(session, "other", None, 10).items == []
    with pytest.raises(SecateurError) as refused, database.write() as session:
        transitions.cancel(session, "other", job_id)
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert load(database, job_id).state is JobState.QUEUED


def sweep(database: Database) -> int:
    with database.write() as session:
        return transitions.sweep(session, CAP)


def test_the_sweeper_ends_a_cancelling_job_whose_worker_is_gone(database: Database) -> None:
    lease = running(database)
    with database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, lease.job_id)
    assert sweep(database) == 0
    expire(database, lease.job_id)
    assert claim(database) is None
    assert sweep(database) == 1
    assert load(database, lease.job_id).state is JobState.CANCELLED


def test_the_sweeper_fails_a_job_that_loses_worker_after_worker(database: Database) -> None:
    job_id = submit(database)
    for _ in range(CAP):
        assert claim(database) is not None
        assert sweep(database) == 0
        expire(database, job_id)
    assert claim(database) is None
    assert sweep(database) == 1
    assert sweep(database) == 0
    job = load(database, job_id)
    assert (job.state, job.failures) == (JobState.FAILED, CAP)
    assert job.error == transitions.WORKER_LOST
