"""Which jobs a worker may claim, and in which order (docs/states.md).

A claim looks at the first job of every tenant's queue, so it takes no longer if a tenant has many jobs waiting. Jobs that the
worker cannot hold (store/jobs/workers/capabilities.py) are skipped as if they did not exist, and so are jobs of a sweep that
already runs as many as it may.
"""

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import TypeVarTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    SQLColumnExpression,
    and_,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session, aliased

from api_schemas.enums import JobState
from store.database.clock import now
from store.database.tables import Job, Sweep, TenantTurn
from store.database.tables.jobs import IN_SWEEPS
from store.database.upsert import insert_into
from store.jobs.workers.capabilities import ANY, Capability, fits

Ts = TypeVarTuple("Ts")

HELD = (JobState.RUNNING, JobState.CANCELLING)


def claimable(
    failure_cap: int, max_running: int | None = None, worker: Capability = ANY, *, sweeps: bool = True
) -> ColumnElement[bool]:
    """Queued and due, or running with an expired lease: its worker is dead, which counts as a failure.

    A lost job that is at the cap, or that was to be paused, is left to the sweep. Skipped are tenants with `max_running` running
    jobs, jobs that `worker` cannot hold, and jobs of a sweep that runs as many as it may; without `sweeps`, jobs of any sweep.
    """
    due = and_(Job.state == JobState.QUEUED, or_(Job.available_at.is_(None), Job.available_at <= now()))
    ready = and_(or_(due, lost(failure_cap)), fits(worker), sweep_has_room() if sweeps else Job.sweep_id.is_(None))
    return ready if max_running is None else and_(ready, Job.tenant.not_in(at_their_most(max_running)))


def due(row: type[Job] = Job) -> ColumnElement[bool]:
    """Queued, and not waiting for its time. The state is a literal and not a parameter, so that ix_jobs_queued is used."""
    return and_(row.state == literal_column("'queued'"), or_(row.available_at.is_(None), row.available_at <= now()))


def sweep_has_room(row: type[Job] = Job) -> ColumnElement[bool]:
    """In no sweep, or in one that may run more jobs."""
    held = select(Job.sweep_id, func.count().label("jobs")).where(_held_now(), Job.sweep_id.is_not(None))
    counted = held.group_by(Job.sweep_id).subquery()
    full = select(Sweep.id).join(counted, counted.c.sweep_id == Sweep.id).where(counted.c.jobs >= Sweep.max_parallel)
    return or_(row.sweep_id.is_(None), row.sweep_id.not_in(full))


def sweep_rooms(session: Session, sweeps: Collection[str]) -> dict[str, int]:
    """For sweeps with a limit, how many more jobs they may run."""
    held = select(Job.sweep_id, func.count().label("jobs")).where(_held_now(), Job.sweep_id.in_(sweeps))
    counted = held.group_by(Job.sweep_id).subquery()
    room = select(Sweep.id, Sweep.max_parallel - func.coalesce(counted.c.jobs, 0))
    room = room.outerjoin(counted, counted.c.sweep_id == Sweep.id)
    found = session.execute(room.where(Sweep.id.in_(sweeps), Sweep.max_parallel.is_not(None)))
    return {sweep: max(0, left or 0) for sweep, left in found}


def sweeps_wait(session: Session) -> bool:
    """Whether there is a job of a sweep that a claim might take."""
    return (
        session.scalar(select(Job.id).where(text(f"jobs.{IN_SWEEPS} AND jobs.state <> 'paused'")).limit(1)) is not None
    )


def _held_now() -> ColumnElement[bool]:
    """Held by a worker that is alive."""
    return and_(Job.state.in_(HELD), Job.lease_until >= now())


def lost(failure_cap: int) -> ColumnElement[bool]:
    """Running with an expired lease, and to be claimed again."""
    running = and_(Job.state == JobState.RUNNING, Job.lease_until < now())
    return and_(running, Job.failures + 1 < failure_cap, ~Job.pause_requested)


def in_claim_order(jobs: Select[*Ts]) -> Select[*Ts]:
    """These jobs in the order of the queue: priority; then the tenant with fewer running jobs, then the tenant whose last job
    started longest ago; then age. store/jobs/queue_positions.py forecasts with the same order."""
    jobs, running, begun = with_turns(jobs)
    return jobs.order_by(Job.priority.desc(), running, begun.asc().nulls_first(), Job.created_at, Job.id)


def with_turns(
    jobs: Select[*Ts],
) -> tuple[Select[*Ts], SQLColumnExpression[int], SQLColumnExpression[datetime | None]]:
    """The same jobs, joined with data of their tenants: how many jobs live workers hold, and when one was last claimed, NULL if
    never."""
    held = select(Job.tenant, func.count().label("jobs")).where(_held_now()).group_by(Job.tenant).subquery()
    joined = jobs.outerjoin(held, held.c.tenant == Job.tenant).outerjoin(TenantTurn, TenantTurn.tenant == Job.tenant)
    return joined, func.coalesce(held.c.jobs, 0), TenantTurn.begun_at


@lru_cache(maxsize=8)
def fronts(failure_cap: int, worker: Capability = ANY, sweeps: bool | None = True) -> CompoundSelect[str]:
    """Ids of the first job that `worker` can hold of every tenant with a due job, by priority and age, and of all lost jobs.
    `sweeps`: see `claimable`; None counts jobs of sweeps like all others.

    The first job in claim order is among them. Tenants are found one after another in the index, without reading their queues;
    the index also contains what jobs need. Built once: building four aliases of a wide table takes longer than the query.
    """
    first, later, one, top = (aliased(Job) for _ in range(4))
    waiting = select(func.min(first.tenant).label("tenant")).where(due(first)).cte("waiting", recursive=True)
    following = select(func.min(later.tenant)).where(due(later), later.tenant > waiting.c.tenant)
    waiting = waiting.union_all(
        select(following.correlate(waiting).scalar_subquery()).where(waiting.c.tenant.is_not(None))
    )
    urgent = select(top.priority).where(
        top.tenant == waiting.c.tenant, due(top), fits(worker, top), *_of_sweeps(top, sweeps)
    )
    urgent = urgent.order_by(top.priority.desc()).limit(1)
    oldest = select(one.id).where(
        one.tenant == waiting.c.tenant,
        due(one),
        fits(worker, one),
        *_of_sweeps(one, sweeps),
        one.priority == urgent.correlate(waiting).scalar_subquery(),
    )
    front = oldest.order_by(one.created_at, one.id).limit(1).correlate(waiting).scalar_subquery()
    return select(front.label("id")).select_from(waiting).union_all(select(Job.id).where(lost(failure_cap)))


def _of_sweeps(row: type[Job], sweeps: bool | None) -> tuple[ColumnElement[bool], ...]:
    if sweeps is None:
        return ()
    return (sweep_has_room(row) if sweeps else row.sweep_id.is_(None),)


def at_their_most(max_running: int) -> Select[str]:
    """Tenants with `max_running` running jobs, determined once and not per waiting job."""
    return select(Job.tenant).where(_held_now()).group_by(Job.tenant).having(func.count() >= max_running)


def begun(session: Session, job: Job) -> None:
    """Record that this job was claimed: its tenant has had its turn. This is the last write of a claim, because other
    transactions of the tenant wait for its end."""
    turn = insert_into(session, TenantTurn).values(tenant=job.tenant, begun_at=job.claimed_at)
    session.execute(turn.on_conflict_do_update(index_elements=["tenant"], set_={"begun_at": turn.excluded.begun_at}))
