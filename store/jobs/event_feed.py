"""New events of many jobs at once, of any tenant: for the watcher that serves all streams of a process."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES
from api_schemas.results.events import JobEvent
from store.database.tables import Job, JobEventRow

JOBS_A_QUERY = 500
CHANGED_A_QUERY = 50
EVENTS_A_QUERY = 2000


@dataclass
class NewEvents:
    """The new events of a job."""

    events: list[JobEvent] = field(default_factory=list)
    """In order, without gaps; there may be more."""
    ended: bool = False
    """No event will follow these."""


def new_events(session: Session, known: Mapping[str, int]) -> dict[str, NewEvents]:
    """The jobs in `known` that have new events; `known` has the number of the last known event by job.

    One query per 500 jobs, and one per 50 that have new events.
    """
    found: dict[str, NewEvents] = {}
    changed: list[str] = []
    for job_ids in _batches(list(known), JOBS_A_QUERY):
        heads = select(Job.id, Job.last_seq, Job.state, Job.deleted_at).where(Job.id.in_(job_ids))
        for job_id, last_seq, state, deleted_at in session.execute(heads):
            told = last_seq <= known[job_id]
            # A deleted job has no events left to wait for.
            if deleted_at is not None or (told and state in TERMINAL_STATES):
                found[job_id] = NewEvents(ended=True)
            elif not told:
                found[job_id] = NewEvents()
                changed.append(job_id)
    for job_ids in _batches(changed, CHANGED_A_QUERY):
        newer = or_(*(and_(JobEventRow.job_id == job_id, JobEventRow.seq > known[job_id]) for job_id in job_ids))
        rows = select(JobEventRow).where(newer).order_by(JobEventRow.job_id, JobEventRow.seq).limit(EVENTS_A_QUERY)
        for row in session.scalars(rows):
            found[row.job_id].events.append(JobEvent(seq=row.seq, created_at=row.created_at, body=row.body))
    return found


def _batches(job_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (job_ids[at : at + size] for at in range(0, len(job_ids), size))
