"""How many jobs go before a queued one: the order in which claims would take them all, if none came and none ended."""

import time
from collections.abc import Collection
from functools import lru_cache

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from store.database.connection import Database
from store.database.tables import Job
from store.jobs.transitions import claimable, last_begun_of_tenant, running_of_tenant

KEPT_SECONDS = 1.0


class QueuePositions:
    """Queue positions for many who poll: asked for once a second, or after this process wrote. Safe to share between threads.

    What other processes did is seen a second late at most. The whole queue is looked through whoever asks, so that each
    poll would cost more the more jobs wait.
    """

    def __init__(self, database: Database, failure_cap: int) -> None:
        self._database = database
        self._failure_cap = failure_cap
        self._seen: tuple[int, float, dict[str, int]] = (-1, 0.0, {})

    def of(self, session: Session, job_ids: Collection[str]) -> dict[str, int]:
        """As `queue_positions`, of these jobs."""
        writes, now = self._database.writes, time.monotonic()
        seen_writes, seen_at, found = self._seen
        current = writes == seen_writes and now - seen_at < KEPT_SECONDS
        if not (current and all(job_id in found for job_id in job_ids)):
            found = queue_positions(session, self._failure_cap)
            self._seen = (writes, now, found)
        return {job_id: found[job_id] for job_id in job_ids if job_id in found}


def queue_positions(session: Session, failure_cap: int) -> dict[str, int]:
    """Place in the queue of every job that is queued and due, 1 for the next one. One query, whatever their number.

    A claim raises its tenant's count of running jobs, so a tenant's n-th job goes as if n-1 more were running
    (transitions.claim_order). Of tenants that are equal then, the one whose claim before that comes first goes first: the one
    that has had fewer claims at this priority, or in all; where there are none, the one whose turn it is now. Jobs of three
    and more priorities at once can tie in ways that this does not tell apart.
    """
    rows = session.execute(_statement(failure_cap))
    return {row.id: row.place for row in rows}


@lru_cache
def _statement(failure_cap: int) -> Select[tuple[str, int]]:
    """Built once: that takes ten times as long as running it does."""
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
    return select(placed.c.id, placed.c.place).where(placed.c.state == JobState.QUEUED)
