"""How many jobs are ahead of a queued one: the order in which claims would take them if no job arrived and none ended."""

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from store.database.connection import Database
from store.database.tables import Job
from store.jobs.turns import due, fronts, lost, with_turns

KEPT_SECONDS = 1.0
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_STANDING = select(Job.id, Job.tenant, Job.priority, Job.created_at)
_WAITING = select(Job.tenant, Job.priority, func.count().label("jobs")).where(due()).group_by(Job.tenant, Job.priority)


class QueuePositions:
    """Queue positions for many polling clients: queried at most once a second, or after this process wrote. Thread-safe.

    Changes by other processes appear up to a second late.
    """

    def __init__(self, database: Database, failure_cap: int) -> None:
        self._database = database
        self._failure_cap = failure_cap
        self._seen: tuple[int, float, Queue | None] = (-1, 0.0, None)
        self._reading = threading.Lock()

    def of(self, session: Session, job_ids: Collection[str]) -> dict[str, int]:
        """See `queue_positions`."""
        # One at a time: threads that waited usually find the result that they need.
        with self._reading:
            writes, moment = self._database.writes, time.monotonic()
            seen_writes, seen_at, queue = self._seen
            if queue is None or writes != seen_writes or moment - seen_at >= KEPT_SECONDS:
                queue, seen_at = _read(session, self._failure_cap, job_ids), moment
            elif missing := set(job_ids) - queue.jobs.keys():
                more = _places_within_tenants(session, missing, _lost_jobs(session, self._failure_cap))
                queue = replace(queue, jobs={**queue.jobs, **more})
            self._seen = (writes, seen_at, queue)
        return queue.places(job_ids)


@dataclass
class _Tenant:
    """The data about a tenant with waiting jobs that the order of claims needs."""

    waiting: dict[int, int] = field(default_factory=dict)
    """By priority."""
    running: int = 0
    begun: datetime = _NEVER
    """When a job of its own was last claimed."""
    first: tuple[int, datetime, str] = (0, _NEVER, "")
    """Its first job: priority, negated so that the highest sorts first, then age."""

    def above(self, priority: int) -> int:
        """How many jobs wait at a higher priority."""
        return sum(count for at, count in self.waiting.items() if at > priority)


@dataclass(frozen=True)
class Queue:
    """The data from which the positions of some jobs among all are computed."""

    jobs: Mapping[str, tuple[str, int, int] | None]
    """By job: tenant, priority, and its position among the tenant's jobs of that priority; None if it is not queued and due."""
    tenants: Mapping[str, _Tenant]

    def places(self, job_ids: Iterable[str]) -> dict[str, int]:
        """By job, for those that are queued and due."""
        found = ((job_id, self.jobs[job_id]) for job_id in job_ids)
        return {job_id: self._place(*standing) for job_id, standing in found if standing is not None}

    def _place(self, owner: str, priority: int, at_priority: int) -> int:
        """1 for the next one.

        A claim increments its tenant's count of running jobs, so a tenant's n-th job is ordered as if n-1 more were running
        (turns.in_claim_order). Among tenants that are then equal, the one whose previous claim is earlier comes first: the one
        with fewer claims at this priority, or in all; without such claims, the one whose turn it is now. With jobs at three or
        more priorities at once, there can be ties that this does not resolve.
        """
        mine = self.tenants[owner]
        number = mine.above(priority) + at_priority
        place = number
        for name, other in self.tenants.items():
            if name == owner:
                continue
            above, alike = other.above(priority), other.waiting.get(priority, 0)
            # The other tenant's k-th job at this priority comes first while fewer of its jobs would be running: as long as k is
            # below this.
            level = mine.running + number - other.running - above
            place += above + max(0, min(alike, level - 1))
            if 1 <= level <= alike:
                theirs = (level, above + level, other.begun, other.first[1:])
                place += theirs < (at_priority, number, mine.begun, mine.first[1:])
        return place


def queue_positions(session: Session, failure_cap: int, job_ids: Collection[str]) -> dict[str, int]:
    """Positions in the queue, 1 for the next one, for those of these jobs that are queued and due. Always four queries."""
    return _read(session, failure_cap, job_ids).places(job_ids)


def _read(session: Session, failure_cap: int, job_ids: Collection[str]) -> Queue:
    gone = _lost_jobs(session, failure_cap)
    return Queue(_places_within_tenants(session, job_ids, gone), _tenants(session, failure_cap, gone))


def _lost_jobs(session: Session, failure_cap: int) -> Sequence[Any]:
    return session.execute(_STANDING.where(lost(failure_cap))).all()


def _places_within_tenants(
    session: Session, job_ids: Collection[str], gone: Iterable[Any]
) -> dict[str, tuple[str, int, int] | None]:
    """`Queue.jobs`. The database counts the rows before them, because a tenant may have thousands."""
    theirs = select(Job.tenant).where(Job.id.in_(job_ids))
    number = func.row_number().over(partition_by=(Job.tenant, Job.priority), order_by=(Job.created_at, Job.id))
    columns = select(Job.id, Job.tenant, Job.priority, Job.created_at, number.label("number"))
    numbered = columns.where(due(), Job.tenant.in_(theirs)).subquery()
    found: dict[str, tuple[str, int, int] | None] = dict.fromkeys(job_ids)
    for row in session.execute(select(numbered).where(numbered.c.id.in_(job_ids))):
        alike = (each for each in gone if (each.tenant, each.priority) == (row.tenant, row.priority))
        before = sum((each.created_at, each.id) < (row.created_at, row.id) for each in alike)
        found[row.id] = (row.tenant, row.priority, row.number + before)
    return found


def _tenants(session: Session, failure_cap: int, gone: Iterable[Any]) -> dict[str, _Tenant]:
    known: dict[str, _Tenant] = defaultdict(_Tenant)
    for name, priority, waiting in session.execute(_WAITING):
        known[name].waiting[priority] = waiting
    for lost_job in gone:
        at_priority = known[lost_job.tenant].waiting
        at_priority[lost_job.priority] = at_priority.get(lost_job.priority, 0) + 1
    for row in session.execute(_firsts(failure_cap)):
        tenant, first = known[row.tenant], (-row.priority, row.created_at, row.id)
        tenant.first = min(tenant.first, first) if tenant.first[2] else first
        tenant.running, tenant.begun = row.running, row.begun or _NEVER
    return known


@lru_cache(maxsize=8)
def _firsts(failure_cap: int) -> Select[Any]:
    """The first job of every tenant, and how many jobs the tenant runs. Built once, like `fronts`."""
    firsts, running, begun = with_turns(_STANDING.where(Job.id.in_(fronts(failure_cap, sweeps=None))))
    return firsts.add_columns(running.label("running"), begun.label("begun"))
