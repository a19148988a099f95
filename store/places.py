"""How many jobs go before a queued one: the order in which claims would take them all, if none came and none ended."""

from collections.abc import Collection
from functools import lru_cache

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from store.tables import Job
from store.transitions import claimable, last_begun_of_tenant, running_of_tenant


def places(session: Session, job_ids: Collection[str], failure_cap: int) -> dict[str, int]:
    """Place in the queue of those of `job_ids` that are queued and due, 1 for the next one. One query, whatever their number.

    A claim raises its tenant's count of running jobs, so a tenant's n-th job goes as if n-1 more were running
    (transitions.turn). Of tenants that are equal then, the one whose claim before that comes first goes first: the one that
    has had fewer claims at this priority, or in all; where there are none, the one whose turn it is now. Jobs of three and more
    priorities at once can tie in ways that this does not tell apart.
    """
    rows = session.execute(_statement(failure_cap), {"job_ids": list(job_ids)})
    return {row.id: row.place for row in rows}


@lru_cache
def _statement(failure_cap: int) -> Select[tuple[str, int]]:
    """Built once: that takes ten times as long as running it does, and every poll of a queued job asks."""
    own = (Job.priority.desc(), Job.created_at, Job.id)
    alike = (Job.tenant, Job.priority)
    waiting = (
        select(
            Job.id,
            Job.state,
            Job.priority,
            Job.tenant,
            func.row_number().over(partition_by=Job.tenant, order_by=own).label("number"),
            func.row_number().over(partition_by=alike, order_by=own).label("at_priority"),
            func.first_value(Job.created_at).over(partition_by=Job.tenant, order_by=own).label("first_created_at"),
            func.first_value(Job.id).over(partition_by=Job.tenant, order_by=own).label("first_id"),
        )
        .where(claimable(failure_cap))
        .subquery()
    )
    tenants = (
        select(Job.tenant, running_of_tenant().label("running"), last_begun_of_tenant().label("begun"))
        .where(claimable(failure_cap))
        .group_by(Job.tenant)
        .subquery()
    )
    order = (
        waiting.c.priority.desc(),
        tenants.c.running + waiting.c.number,
        waiting.c.at_priority,
        waiting.c.number,
        tenants.c.begun.asc().nulls_first(),
        waiting.c.first_created_at,
        waiting.c.first_id,
    )
    placed = (
        select(waiting.c.id, waiting.c.state, func.row_number().over(order_by=order).label("place"))
        .join(tenants, tenants.c.tenant == waiting.c.tenant)
        .subquery()
    )
    asked = placed.c.id.in_(bindparam("job_ids", expanding=True))
    return select(placed.c.id, placed.c.place).where(asked, placed.c.state == JobState.QUEUED)
