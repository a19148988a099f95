"""Whose turn it is: which jobs a worker may claim, and in which order (docs/states.md).

A claim looks at the front of every tenant's queue, one job each, and so takes no longer where a tenant has many jobs waiting.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    and_,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from api_schemas.enums import JobState
from store.database.clock import now
from store.database.tables import Job, TenantTurn
from store.database.upsert import insert_into

HELD = (JobState.RUNNING, JobState.CANCELLING)


def claimable(failure_cap: int, max_running: int | None = None) -> ColumnElement[bool]:
    """Queued and due, or running under a lease that ran out: its worker is gone, which counts as a failure.

    A lost job that is at the cap, or that was to be paused, is the sweeper's. A tenant with `max_running` jobs is passed over.
    """
    due = and_(Job.state == JobState.QUEUED, or_(Job.available_at.is_(None), Job.available_at <= now()))
    ready = or_(due, lost(failure_cap))
    return ready if max_running is None else and_(ready, running_of_tenant() < max_running)


def due(row: type[Job] = Job) -> ColumnElement[bool]:
    """Queued, and not waiting for its time. The state is a word of the statement, not a parameter: ix_jobs_queued is for it."""
    return and_(row.state == literal_column("'queued'"), or_(row.available_at.is_(None), row.available_at <= now()))


def lost(failure_cap: int) -> ColumnElement[bool]:
    """Running under a lease that ran out, and to be claimed again."""
    running = and_(Job.state == JobState.RUNNING, Job.lease_until < now())
    return and_(running, Job.failures + 1 < failure_cap, ~Job.pause_requested)


def claim_order() -> Sequence[SQLColumnExpression[Any]]:
    """The order of the queue: priority; then the tenant that has fewer jobs running now, then the one that waited longer
    since a job of its own was last begun; then age. store/jobs/queue_positions.py forecasts by it."""
    return [
        Job.priority.desc(),
        running_of_tenant(),
        last_begun_of_tenant().asc().nulls_first(),
        Job.created_at,
        Job.id,
    ]


def fronts(failure_cap: int) -> CompoundSelect[str]:
    """Identifiers of the first job of every tenant that has one due, by priority and age, and of all lost ones.

    The first by `claim_order` is among them. Tenants are found one after the other in the index, without reading their queues.
    """
    first, later, one, top = (aliased(Job) for _ in range(4))
    waiting = select(func.min(first.tenant).label("tenant")).where(due(first)).cte("waiting", recursive=True)
    following = select(func.min(later.tenant)).where(due(later), later.tenant > waiting.c.tenant)
    waiting = waiting.union_all(
        select(following.correlate(waiting).scalar_subquery()).where(waiting.c.tenant.is_not(None))
    )
    urgent = select(top.priority).where(top.tenant == waiting.c.tenant, due(top)).order_by(top.priority.desc()).limit(1)
    oldest = select(one.id).where(
        one.tenant == waiting.c.tenant, due(one), one.priority == urgent.correlate(waiting).scalar_subquery()
    )
    front = oldest.order_by(one.created_at, one.id).limit(1).correlate(waiting).scalar_subquery()
    return select(front.label("id")).select_from(waiting).union_all(select(Job.id).where(lost(failure_cap)))


def running_of_tenant() -> ScalarSelect[int]:
    """How many jobs of the tenant of the job at hand are with a worker that is alive."""
    other = aliased(Job)
    held = and_(other.deleted_at.is_(None), other.state.in_(HELD), other.lease_until >= now())
    return select(func.count()).where(other.tenant == Job.tenant, held).correlate(Job).scalar_subquery()


def at_their_most(max_running: int) -> Select[str]:
    """Tenants with `max_running` jobs running, found once and not for every job that waits."""
    held = select(Job.tenant).where(Job.state.in_(HELD), Job.lease_until >= now())
    return held.group_by(Job.tenant).having(func.count() >= max_running)


def last_begun_of_tenant() -> ScalarSelect[datetime]:
    """When a job of a job's tenant was last claimed; NULL where none was."""
    return select(TenantTurn.begun_at).where(TenantTurn.tenant == Job.tenant).correlate(Job).scalar_subquery()


def begun(session: Session, job: Job) -> None:
    """This job was claimed: it was its tenant's turn. The last write of a claim, since others of the tenant wait for its end."""
    turn = insert_into(session, TenantTurn).values(tenant=job.tenant, begun_at=job.claimed_at)
    session.execute(turn.on_conflict_do_update(index_elements=["tenant"], set_={"begun_at": turn.excluded.begun_at}))
