"""The log of every attempt of a job: what its engine wrote to standard error, stored piece by piece.

Logs are rows and not artifacts: a piece is written with the heartbeat and fenced like every other write, it is available if the
artifact store fails, and it remains if the worker dies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from store.database.tables import JobLogRow
from store.database.tenancy import owned_by, select_owned
from store.jobs import transitions
from store.jobs.transitions import Lease

MOST_ROWS = 1000
"""Read at once."""


@dataclass(frozen=True)
class LogPiece:
    """Text of an attempt's log from byte `start` to byte `end` of its UTF-8."""

    attempt: int
    start: int
    end: int
    text: str


def append(session: Session, lease: Lease, start: int, text: str, max_bytes: int) -> None:
    """Add `text`, whose first byte is number `start` of the attempt's log, and drop what is older than `max_bytes`.

    What is there already is left as it is: the writer sends a piece again, by then perhaps with more after it, where it did
    not learn whether a commit came through. Raises LeaseLost.
    """
    job = transitions.hold(session, lease)
    ends = select(JobLogRow.start + JobLogRow.size).where(JobLogRow.job_id == job.id, JobLogRow.attempt == lease.epoch)
    end = session.scalar(ends.order_by(JobLogRow.start.desc()).limit(1)) or 0
    if end > start:
        start, text = end, text.encode()[end - start :].decode(errors="replace")
    if not text:
        return
    size = len(text.encode())
    row = JobLogRow(job_id=job.id, tenant=job.tenant, attempt=lease.epoch, start=start, size=size, text=text)
    session.add(row)
    session.flush()
    beyond = JobLogRow.start + JobLogRow.size <= start + size - max_bytes
    session.execute(delete(JobLogRow).where(JobLogRow.job_id == job.id, JobLogRow.attempt == lease.epoch, beyond))


def attempts(session: Session, tenant: str, job_id: str) -> Sequence[int]:
    """Numbers of the attempts that left a log, in order."""
    found = select(JobLogRow.attempt).where(owned_by(JobLogRow, tenant), JobLogRow.job_id == job_id)
    return session.scalars(found.distinct().order_by(JobLogRow.attempt)).all()


def read(session: Session, tenant: str, job_id: str, attempt: int, offset: int, most: int) -> LogPiece:
    """About `most` bytes, whole pieces, from byte `offset` or from the first that is still kept; empty at the end."""
    later = _rows(tenant, job_id, attempt).where(JobLogRow.start >= offset).order_by(JobLogRow.start)
    return _piece(attempt, offset, _up_to(most, session.scalars(later.limit(MOST_ROWS))))


def read_end(session: Session, tenant: str, job_id: str, attempt: int, most: int) -> LogPiece:
    """The newest bytes, about `most`, whole pieces."""
    newest = _rows(tenant, job_id, attempt).order_by(JobLogRow.start.desc())
    return _piece(attempt, 0, _up_to(most, session.scalars(newest.limit(MOST_ROWS)))[::-1])


def _rows(tenant: str, job_id: str, attempt: int) -> Select[JobLogRow]:
    return select_owned(JobLogRow, tenant).where(JobLogRow.job_id == job_id, JobLogRow.attempt == attempt)


def _up_to(most: int, rows: Iterable[JobLogRow]) -> list[JobLogRow]:
    """The first rows that are `most` bytes together; one at least."""
    found: list[JobLogRow] = []
    size = 0
    for row in rows:
        if found and size + row.size > most:
            break
        found.append(row)
        size += row.size
    return found


def _piece(attempt: int, offset: int, rows: Sequence[JobLogRow]) -> LogPiece:
    if not rows:
        return LogPiece(attempt, offset, offset, "")
    return LogPiece(attempt, rows[0].start, rows[-1].start + rows[-1].size, "".join(row.text for row in rows))
