"""Sweeps and their jobs. A sweep has no state: operations on it are applied to its jobs (store/jobs/transitions.py)."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.sweeps import SweepPlan
from api_schemas.enums import TERMINAL_STATES, JobState, SweepState
from store.database.clock import now
from store.database.paging import Rows, fetch_page
from store.database.tables import Job, Sweep
from store.database.tenancy import owned_by, select_owned
from store.jobs import deletion, transitions

Counts = Mapping[JobState, int]


def create(session: Session, tenant: str, name: str | None, plan: SweepPlan, max_parallel: int | None) -> Sweep:
    """Create it without its jobs, which must follow in this transaction (`jobs.create`)."""
    sweep = Sweep(id=ids.new_id(ids.SWEEP), tenant=tenant, name=name, plan=plan, max_parallel=max_parallel)
    session.add(sweep)
    session.flush()
    session.refresh(sweep)
    return sweep


def get(session: Session, tenant: str, sweep_id: str) -> Sweep | None:
    """The sweep, also if it was deleted (`deleted_at`)."""
    return session.scalar(select_owned(Sweep, tenant).where(Sweep.id == sweep_id))


def page(session: Session, tenant: str, cursor: str | None, limit: int) -> Rows[Sweep]:
    """Newest first, without deleted ones."""
    return fetch_page(session, Sweep, select_owned(Sweep, tenant).where(Sweep.deleted_at.is_(None)), cursor, limit)


def jobs_of(session: Session, tenant: str, sweep_id: str) -> Sequence[Job]:
    """In order, including deleted ones as long as their rows exist."""
    return session.scalars(select_owned(Job, tenant).where(Job.sweep_id == sweep_id).order_by(Job.sweep_index)).all()


def counts(session: Session, tenant: str, sweep_ids: Sequence[str]) -> dict[str, dict[JobState, int]]:
    """By sweep, how many of its jobs are in each state; one query."""
    found: dict[str, dict[JobState, int]] = {each: {} for each in sweep_ids}
    query = select(Job.sweep_id, Job.state, func.count()).where(owned_by(Job, tenant), Job.sweep_id.in_(sweep_ids))
    for sweep_id, state, jobs in session.execute(query.group_by(Job.sweep_id, Job.state)):
        found[str(sweep_id)][state] = jobs
    return found


def state_of(jobs: Counts) -> SweepState:
    """The state of a sweep with these numbers of jobs in each state."""
    living = {state for state, count in jobs.items() if count and state not in TERMINAL_STATES}
    if not living:
        return SweepState.ENDED
    if living == {JobState.PAUSED}:
        return SweepState.PAUSED
    begun = any(count for state, count in jobs.items() if state not in (JobState.QUEUED, JobState.PAUSED))
    return SweepState.RUNNING if begun else SweepState.QUEUED


def cancel(session: Session, tenant: str, sweep_id: str) -> int:
    """Apply `transitions.cancel` to every unfinished job. Returns how many there were."""
    return _each(session, tenant, sweep_id, (JobState.CANCELLING,), transitions.cancel)


def pause(session: Session, tenant: str, sweep_id: str) -> int:
    """Apply `transitions.pause` to every unfinished job that can continue. Returns how many there were."""
    return _each(session, tenant, sweep_id, (JobState.CANCELLING, JobState.PAUSED), transitions.pause)


def resume(session: Session, tenant: str, sweep_id: str) -> int:
    """Apply `transitions.resume` to every job that is paused or to be paused. Returns how many jobs have not ended."""
    return _each(session, tenant, sweep_id, (JobState.CANCELLING,), transitions.resume)


def remove(session: Session, tenant: str, sweep_id: str) -> bool:
    """Remove the sweep and its jobs, which must all have ended. False if one has not; then roll the transaction back.

    Raises CONFLICT if another unfinished job continues from a step of one of these.
    """
    for job in jobs_of(session, tenant, sweep_id):
        if job.deleted_at is None and not deletion.delete_job(session, tenant, job.id):
            return False
    gone = update(Sweep).where(owned_by(Sweep, tenant), Sweep.id == sweep_id, Sweep.deleted_at.is_(None))
    session.execute(gone.values(deleted_at=now(), name=None).execution_options(synchronize_session=False))
    return True


def forget(session: Session) -> int:
    """Remove sweeps none of whose jobs has a row left; returns how many."""
    left = select(Job.id).where(Job.sweep_id == Sweep.id).exists()
    gone = delete(Sweep).where(~left).returning(Sweep.id).execution_options(synchronize_session=False)
    return len(session.execute(gone).all())


def _each(
    session: Session,
    tenant: str,
    sweep_id: str,
    passed_over: Sequence[JobState],
    move: Callable[[Session, str, str], Job],
) -> int:
    """Locks the jobs in a fixed order, so that two operations on one sweep wait for each other, and no job ends meanwhile."""
    query = select_owned(Job, tenant).where(Job.sweep_id == sweep_id, Job.state.not_in(TERMINAL_STATES))
    living = session.scalars(query.order_by(Job.sweep_index).with_for_update(of=Job)).all()
    for job in living:
        if job.state not in passed_over:
            move(session, tenant, job.id)
    return len(living)
