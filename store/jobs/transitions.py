"""The life of a job: every change of `jobs.state`, each one conditional UPDATE (see the diagram in docs/states.md).

No code reads a job, decides, and writes it back. The condition is part of the UPDATE, so if two processes try at once, one
changes a row and the other changes none. A worker's writes name the epoch of its claim (the fencing token). Once another worker
has claimed the job, or it has ended, they change no row and raise LeaseLost.

Each transition adds its event, and its wake-up if needed, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select, update
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import TERMINAL_STATES, JobState, Phase
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import JobEventBody, StateChanged, Warned
from api_schemas.results.metrics import DataSummary, JobResult, JobWarning, StepMetrics
from api_schemas.spec.job import JobRequest
from store import tracing
from store.database import stored_bytes
from store.database.clock import now
from store.database.locks import one_at_a_time
from store.database.tables import Job, JobEventRow, JobLabel, JobStep, JobStepFile, TrainingFile
from store.database.tenancy import owned_by
from store.jobs import turns
from store.jobs.changes import at_rest, change_jobs, either
from store.jobs.turns import claimable, fronts
from store.jobs.workers.capabilities import ANY, NOTHING, Capability, Needs
from store.jobs.workers.live_workers import called
from store.queue import outbox
from store.webhooks import enqueue

QUEUED, RUNNING, CANCELLING, PAUSED = JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING, JobState.PAUSED
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

MOST_DOUBLINGS = 6
"""How often the wait after an unplanned end doubles."""
WORKER_LOST = JobError(
    code=ErrorCode.ENGINE_CRASHED,
    detail="The worker that ran this job stopped responding, repeatedly at the same step. The operator's worker log "
    "contains the reason (often memory); a smaller batch_size may help.",
)

HANDED_BACK = "the worker that ran the job was lost"
PREEMPTED = "it handed its worker to a job of higher priority"


class LeaseLost(Exception):
    """The job is no longer this worker's, or not in the required state: stop at once, publish nothing."""


@dataclass(frozen=True)
class Lease:
    """A claim: the right to write to a job until another worker claims it."""

    job_id: str
    epoch: int


@dataclass(frozen=True)
class StepFile:
    """A file of a step that is already durable under `key`."""

    name: str
    size: int
    sha256: str
    key: str


# --- by the service --------------------------------------------------------------------------------------------------


def submit(
    session: Session,
    tenant: str,
    request: JobRequest,
    lineage: Mapping[str, str],
    warnings: tuple[JobWarning, ...] = (),
    needs: Needs = NOTHING,
    sweep: tuple[str, int] | None = None,
) -> Job:
    """→ queued. In one transaction: the job, its first event, the message that wakes a worker."""
    job = Job(
        id=ids.new_id(ids.JOB),
        tenant=tenant,
        name=request.name,
        request=request,
        lineage=dict(lineage),
        warnings=warnings or None,
        model_id=lineage.get("model"),
        dataset_id=lineage.get("dataset"),
        priority=request.priority,
        needs_device=needs.device,
        needs_cpu_bytes=needs.cpu_bytes,
        needs_gpu_bytes=needs.gpu_bytes,
        sweep_id=sweep[0] if sweep else None,
        sweep_index=sweep[1] if sweep else None,
        state=QUEUED,
        traceparent=tracing.traceparent(),
    )
    job.last_seq = 1
    session.add(job)
    session.flush()
    labels = request.labels.items()
    session.add_all(
        JobLabel(job_id=job.id, tenant=tenant, key=key, value=value, created_at=job.created_at) for key, value in labels
    )
    session.add(JobEventRow(job_id=job.id, tenant=tenant, seq=1, body=StateChanged(state=QUEUED)))
    outbox.add_wake(session, tenant)
    session.flush()
    session.refresh(job)
    return job


def cancel(session: Session, tenant: str, job_id: str) -> Job:
    """queued, paused → cancelled; running → cancelling (the worker ends its engine first); cancelling stays.

    Raises NOT_FOUND, or CONFLICT if the job has already ended.
    """
    changed = change_jobs(
        session,
        and_(owned_by(Job, tenant), Job.id == job_id, Job.state.in_([QUEUED, PAUSED, RUNNING])),
        state=either((Job.state == RUNNING, CANCELLING), otherwise=CANCELLED),
        finished_at=case((Job.state == RUNNING, None), else_=now()),
        yields_to=None,
    )
    return changed[0] if changed else _unless_ended(session, job_id, tenant, "cancelled")


def pause(session: Session, tenant: str, job_id: str) -> Job:
    """queued → paused; running → running until the current step is committed, then paused; paused stays.

    Raises NOT_FOUND, or CONFLICT if the job is ending or has ended.
    """
    changed = change_jobs(
        session,
        and_(
            owned_by(Job, tenant),
            Job.id == job_id,
            or_(Job.state == QUEUED, and_(Job.state == RUNNING, ~Job.pause_requested)),
        ),
        detail="pause requested",
        state=either((Job.state == QUEUED, PAUSED), otherwise=RUNNING),
        pause_requested=Job.state == RUNNING,
        yields_to=None,
    )
    return changed[0] if changed else _unless_ended(session, job_id, tenant, "paused", CANCELLING)


def resume(session: Session, tenant: str, job_id: str) -> Job:
    """paused → queued; running with a requested pause → running without one; every other unfinished job stays.

    Raises NOT_FOUND, or CONFLICT if the job is ending or has ended.
    """
    changed = change_jobs(
        session,
        and_(
            owned_by(Job, tenant),
            Job.id == job_id,
            or_(Job.state == PAUSED, and_(Job.state == RUNNING, Job.pause_requested)),
        ),
        detail="resumed",
        state=either((Job.state == PAUSED, QUEUED), otherwise=RUNNING),
        pause_requested=False,
    )
    if changed and changed[0].state == QUEUED:
        outbox.add_wake(session, tenant)
    return changed[0] if changed else _unless_ended(session, job_id, tenant, "resumed", CANCELLING)


# --- by a worker -----------------------------------------------------------------------------------------------------


def claim(
    session: Session,
    worker: str,
    lease_seconds: float,
    failure_cap: int,
    max_running: int | None = None,
    has: Capability = ANY,
) -> Job | None:
    """queued, or running with an expired lease → running. Returns the first job that a worker with `has` can hold, or None.

    The order is `turns.in_claim_order`, among tenants with fewer than `max_running` running jobs. Two claims never get the same
    job: on PostgreSQL the second skips the locked row, on SQLite it waits for the first one's transaction and then finds the row
    changed.
    """
    counts = max_running is not None or turns.sweeps_wait(session)
    if counts:
        # Without serializing, two concurrent claims would each count without the other's job. A claim that does not wait takes no
        # job of a sweep.
        one_at_a_time(session, "claim")
    ready = claimable(failure_cap, max_running, has, sweeps=counts)
    front = and_(ready, Job.id.in_(fronts(failure_cap, has, counts)))
    claimed = _claim(session, front, ready, worker, lease_seconds)
    if claimed is None and session.scalar(select(Job.id).where(front).limit(1)) is not None:
        # Other workers are about to claim the first job of every tenant, so this claim looks at the jobs behind those.
        claimed = _claim(session, ready, ready, worker, lease_seconds)
    return claimed


def _claim(
    session: Session, among: ColumnElement[bool], ready: ColumnElement[bool], worker: str, lease_seconds: float
) -> Job | None:
    best = turns.in_claim_order(select(Job.id).where(among)).limit(1)
    changed = change_jobs(
        session,
        and_(Job.id == best.with_for_update(skip_locked=True, of=Job).scalar_subquery(), ready),
        state=RUNNING,
        epoch=Job.epoch + 1,
        failures=Job.failures + case((Job.state == RUNNING, 1), else_=0),
        worker=worker,
        claimed_at=now(),
        lease_until=now(plus=lease_seconds),
        available_at=None,
        started_at=func.coalesce(Job.started_at, now()),
        phase=Phase.STARTING,
        progress=None,
        yields_to=None,
    )
    if not changed:
        return None
    turns.begun(session, changed[0])
    return changed[0]


def renew(
    session: Session, lease: Lease, lease_seconds: float, progress: JobProgress | None = None, ran_seconds: float = 0.0
) -> JobState:
    """A heartbeat: renews the lease, stores `progress` (if any), adds `ran_seconds` to the job's time.

    Returns running, or cancelling: then end the engine. Raises LeaseLost.
    """
    values: dict[str, Any] = {"lease_until": now(plus=lease_seconds), "ran_seconds": Job.ran_seconds + ran_seconds}
    if progress is not None:
        values |= {"progress": progress, "phase": progress.phase}
    statement = update(Job).where(_held(lease, RUNNING, CANCELLING)).values(values).returning(Job.state)
    state = session.execute(statement.execution_options(synchronize_session=False)).scalar_one_or_none()
    if state is None:
        raise LeaseLost(lease)
    return JobState(state)


def record(
    session: Session,
    lease: Lease,
    events: Sequence[JobEventBody],
    *,
    phase: Phase | None = None,
    data: DataSummary | None = None,
) -> None:
    """Append the engine's events, in order, and update the job from them. Raises LeaseLost."""
    values: dict[str, Any] = {}
    if phase is not None:
        values["phase"] = phase
    if data is not None:
        values["data"] = data
    _fenced(session, lease, (RUNNING, CANCELLING), events, **values)


def hold(session: Session, lease: Lease) -> Job:
    """Lock the job until the transaction ends. Raises LeaseLost if it is not this worker's."""
    return _fenced(session, lease, (RUNNING, CANCELLING), ())


def save_training(session: Session, lease: Lease, training: TrainingFile, events: Sequence[JobEventBody] = ()) -> Job:
    """Record that the recovery of the next step can continue from `training`, which must already be durable. Returns the job,
    which may now have to be handed back. Raises LeaseLost."""
    follows = Job.last_step == training.step - 1
    return _fenced(session, lease, (RUNNING,), events, follows, training=training)


def commit_step(
    session: Session,
    lease: Lease,
    metrics: StepMetrics,
    files: Sequence[StepFile],
    *,
    downloadable: bool,
    events: Sequence[JobEventBody] = (),
) -> Job:
    """Create a step, whose files must already be durable. Returns the job, which may now have to stop.

    First the fenced UPDATE of the job (which also checks that this is the next step, and resets the failures), then the rows of
    the step. Raises LeaseLost.
    """
    step = metrics.step
    follows = Job.last_step.is_(None) if step == 0 else Job.last_step == step - 1
    size = sum(file.size for file in files)
    values: dict[str, Any] = {
        "last_step": step,
        "failures": 0,
        "training": None,
        "stored_bytes": Job.stored_bytes + size,
    }
    job = _fenced(session, lease, (RUNNING,), events, follows, **values)
    row = JobStep(
        job_id=job.id, tenant=job.tenant, step=step, epoch=lease.epoch, metrics=metrics, downloadable=downloadable
    )
    row.files = [
        JobStepFile(
            job_id=job.id,
            step=step,
            tenant=job.tenant,
            name=file.name,
            size=file.size,
            sha256=file.sha256,
            key=file.key,
        )
        for file in files
    ]
    session.add(row)
    session.flush()
    if downloadable:
        enqueue.step_committed(session, job, step)
    stored_bytes.add(session, job.tenant, size)
    return job


def succeed(
    session: Session, lease: Lease, events: Sequence[JobEventBody] = (), *, result: JobResult | None = None
) -> None:
    """running → succeeded, with the job's result. Raises LeaseLost, also if a cancel came first."""
    _fenced(session, lease, (RUNNING,), events, **at_rest(SUCCEEDED), result=result)


def fail(session: Session, lease: Lease, error: JobError, events: Sequence[JobEventBody] = ()) -> None:
    """running → failed: a retry would not help. Raises LeaseLost, also if a cancel came first."""
    _fenced(session, lease, (RUNNING,), events, **at_rest(FAILED), error=error)


def crash(
    session: Session,
    lease: Lease,
    error: JobError,
    *,
    failure_cap: int,
    retry_delay_seconds: float,
    events: Sequence[JobEventBody] = (),
    microbatch: int | None = None,
) -> JobState:
    """An unplanned end: running → queued (due after a wait), at the cap → failed with `error`; cancelling → cancelled.

    If a pause was requested, paused instead of queued. The wait doubles with every further failure, six times at most. A warning
    among the events says what happened, because a job that continues shows no error. `microbatch` is the maximum number of
    samples per pass from now on. Returns the new state. Raises LeaseLost.
    """
    events = (*events, Warned(code=error.code, detail=error.detail))
    cancelled = Job.state == CANCELLING
    at_cap = Job.failures + 1 >= failure_cap
    doublings = case((Job.failures < MOST_DOUBLINGS, Job.failures), else_=MOST_DOUBLINGS)
    wait = retry_delay_seconds * literal(1).bitwise_lshift(doublings)
    over = or_(cancelled, at_cap)
    state = either((cancelled, CANCELLED), (at_cap, FAILED), (Job.pause_requested, PAUSED), otherwise=QUEUED)
    values = at_rest(state) | {
        "finished_at": case((over, now()), else_=None),
        "available_at": case((over, None), else_=now(plus=wait)),
        "error": case((and_(~cancelled, at_cap), literal(error, Job.error.type)), else_=None),
        "failures": Job.failures + 1,
        "microbatch": func.coalesce(microbatch, Job.microbatch),
    }
    return _fenced(session, lease, (RUNNING, CANCELLING), events, **values).state


def release(session: Session, lease: Lease, *, preempted: bool = False) -> JobState:
    """Hand the job back as planned (the worker stops, a pause is due, or the job was `preempted`): running → queued, or paused if
    that was requested; cancelling → cancelled. No failure is counted. Returns the new state. Raises LeaseLost."""
    cancelled = Job.state == CANCELLING
    values = at_rest(either((cancelled, CANCELLED), (Job.pause_requested, PAUSED), otherwise=QUEUED))
    values["finished_at"] = case((cancelled, now()), else_=None)
    if preempted:
        # Keep `yields_to`: it is the reason why the job waits.
        values["yields_to"] = Job.yields_to
        values["preemptions"] = Job.preemptions + case((Job.yields_to.is_not(None), 1), else_=0)
    job = _fenced(session, lease, (RUNNING, CANCELLING), (), detail=PREEMPTED if preempted else None, **values)
    if job.state == QUEUED:
        outbox.add_wake(session, job.tenant)
    return job.state


def confirm_cancel(session: Session, lease: Lease, events: Sequence[JobEventBody] = ()) -> None:
    """cancelling → cancelled: the engine has ended. Raises LeaseLost."""
    _fenced(session, lease, (CANCELLING,), events, **at_rest(CANCELLED))


def hand_back(session: Session, workers: Sequence[str], failure_cap: int, *, planned: bool = False) -> int:
    """All jobs that these workers hold: running → queued and due at once, paused if that was requested, failed at the cap;
    cancelling → cancelled. Counts as an unplanned end, like an expired lease, unless `planned`. Returns the number of jobs.

    Only for workers that are dead, or that report that they hold nothing; one that is alive nevertheless loses its lease. Names
    are as `called` takes them.
    """
    running = Job.state == RUNNING
    failures = Job.failures + case((running, 0 if planned else 1), else_=0)
    at_cap = and_(running, literal(not planned), failures >= failure_cap)
    state = either((~running, CANCELLED), (at_cap, FAILED), (Job.pause_requested, PAUSED), otherwise=QUEUED)
    values = at_rest(state) | {
        "finished_at": case((or_(~running, at_cap), now()), else_=None),
        "error": case((at_cap, literal(WORKER_LOST, Job.error.type)), else_=None),
        "failures": failures,
    }
    changed = change_jobs(
        session, and_(Job.state.in_([RUNNING, CANCELLING]), called(Job.worker, workers)), detail=HANDED_BACK, **values
    )
    for job in changed:
        if job.state == QUEUED:
            outbox.add_wake(session, job.tenant)
    return len(changed)


# --- by maintenance --------------------------------------------------------------------------------------------------


def sweep(session: Session, failure_cap: int) -> int:
    """End jobs that no worker will end: expired cancelling → cancelled; expired running at the cap → failed, or paused if that
    was requested. Returns how many. Other expired jobs need nothing: the next claim takes them."""
    expired = Job.lease_until < now()
    cancelled = change_jobs(session, and_(Job.state == CANCELLING, expired), **at_rest(CANCELLED))
    at_cap = and_(Job.state == RUNNING, expired, Job.failures + 1 >= failure_cap)
    failed = change_jobs(session, at_cap, **at_rest(FAILED), error=WORKER_LOST, failures=Job.failures + 1)
    stopped = at_rest(PAUSED) | {"finished_at": None, "failures": Job.failures + 1}
    paused = change_jobs(session, and_(Job.state == RUNNING, expired, Job.pause_requested), **stopped)
    return len(cancelled) + len(failed) + len(paused)


# --- how it is done --------------------------------------------------------------------------------------------------


def _held(lease: Lease, *states: JobState) -> ColumnElement[bool]:
    """The fence: no one has claimed or ended the job since."""
    return and_(Job.id == lease.job_id, Job.epoch == lease.epoch, Job.state.in_(states))


def _fenced(
    session: Session,
    lease: Lease,
    states: tuple[JobState, ...],
    events: Sequence[JobEventBody],
    *conditions: ColumnElement[bool],
    detail: str | None = None,
    **values: Any,
) -> Job:
    changed = change_jobs(session, and_(_held(lease, *states), *conditions), events, detail, **values)
    if not changed:
        raise LeaseLost(lease)
    return changed[0]


def _unless_ended(session: Session, job_id: str, tenant: str, wish: str, *refused: JobState) -> Job:
    """The job, if nothing had to change; raises NOT_FOUND, or CONFLICT if it has ended or is in a `refused` state."""
    job = session.scalar(select(Job).where(owned_by(Job, tenant), Job.id == job_id))
    if job is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
    if job.state in TERMINAL_STATES:
        raise SecateurError(ErrorCode.CONFLICT, f"The job has already {_ended(job.state)}; it cannot be {wish}.")
    if job.state in refused:
        raise SecateurError(ErrorCode.CONFLICT, f"The job is {job.state.value}; it cannot be {wish}.")
    return job


def _ended(state: JobState) -> str:
    return {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "been cancelled"}[state]
