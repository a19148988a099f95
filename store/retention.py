"""How long things are kept (docs/deploy.md): uploads, checkpoints, jobs with their events and logs, the audit log, responses to
idempotency keys, sessions, workers.

What expires loses its files or its contents and keeps a row, a tombstone, which is removed later. Here rows stop referencing
files; store/files/orphans.py then removes the bytes. What an unfinished job needs never expires and never delays the removal of
anything else: retention works in batches, each of which starts after the previous one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, literal_column, select, tuple_, update
from sqlalchemy.orm import Session

from api_schemas.enums import UploadState
from store.access import audit, idempotency, sessions
from store.database import batches, stored_bytes
from store.database.batches import Batch, Position
from store.database.clock import moment, now
from store.database.connection import Database
from store.database.paging import at
from store.database.tables import Job, JobEventRow, JobLogRow, JobStep, JobStepFile, Upload
from store.jobs import sweeps
from store.jobs.deletion import bury, give_up, needed_among
from store.jobs.workers import live_workers
from store.settings import Settings

JOBS = 50
"""Removed in one transaction, with all their steps, events and logs."""


@dataclass(frozen=True)
class Expired:
    """How many."""

    uploads: int
    jobs: int
    """Whose checkpoints went."""
    audit: int = 0
    keys: int = 0
    """Of idempotency, with the answers kept for them."""
    sessions: int = 0
    """Of browsers."""
    ended_jobs: int = 0
    """That went with all that was left of them."""
    events: int = 0
    """Jobs whose events went."""
    logs: int = 0
    """Pieces of logs."""
    tombstones: int = 0
    workers: int = 0
    """That have not announced themselves for longer than a lease."""


def expire(database: Database, settings: Settings) -> Expired:
    """Let go of what is older than the settings say. Several may run at once."""

    def after(seconds: float | None, let_go: Callable[[float], int]) -> int:
        return 0 if seconds is None else let_go(seconds)

    def uploads(state: UploadState) -> Callable[[float], int]:
        return lambda seconds: batches.each(database, _uploads(state, seconds))

    return Expired(
        uploads=after(settings.open_upload_seconds, uploads(UploadState.OPEN))
        + after(settings.upload_retention_seconds, uploads(UploadState.READY)),
        # Whole jobs first: of what has gone nothing is left to go.
        ended_jobs=after(settings.job_retention_seconds, lambda seconds: batches.each(database, _ended_jobs(seconds))),
        jobs=after(settings.result_retention_seconds, lambda seconds: batches.each(database, _results(seconds))),
        events=after(settings.event_retention_seconds, lambda seconds: batches.each(database, _events(seconds))),
        logs=after(settings.log_retention_seconds, lambda seconds: _logs(database, seconds)),
        tombstones=after(settings.tombstone_seconds, lambda seconds: _tombstones(database, seconds)),
        audit=after(settings.audit_retention_seconds, lambda seconds: audit.expire(database, seconds)),
        keys=idempotency.sweep(database),
        sessions=sessions.sweep(database),
        workers=live_workers.sweep(database),
    )


def _uploads(state: UploadState, seconds: float) -> Batch:
    def some(session: Session, position: Position | None) -> tuple[int, Position | None]:
        # Locked before the jobs are read: a job that is being submitted holds its inputs until it is there to be read.
        old = (Upload.state == state,)
        found = _next(session, Upload, Upload.created_at, seconds, old, position, batches.ROWS)
        gone = {row.id for row in found}
        gone -= needed_among(session, gone)
        give_up(session, gone, UploadState.EXPIRED)
        return len(gone), _end(found, batches.ROWS)

    return some


def _ended_jobs(seconds: float) -> Batch:
    old = (Job.deleted_at.is_(None), Job.finished_at.is_not(None))

    def some(session: Session, position: Position | None) -> tuple[int, Position | None]:
        found = _next(session, Job, Job.finished_at, seconds, old, position, JOBS)
        gone = {row.id for row in found}
        gone -= needed_among(session, gone)
        bury(session, gone)
        return len(gone), _end(found, JOBS)

    return some


def _results(seconds: float) -> Batch:
    old = (Job.stored_bytes > literal_column("0"),)

    def some(session: Session, position: Position | None) -> tuple[int, Position | None]:
        found = _next(session, Job, Job.finished_at, seconds, old, position, batches.ROWS)
        gone = {row.id for row in found}
        gone -= needed_among(session, gone)
        if gone:
            freed: dict[str, int] = {}
            for tenant, size in session.execute(select(Job.tenant, Job.stored_bytes).where(Job.id.in_(gone))):
                freed[tenant] = freed.get(tenant, 0) - size
            _quietly(session, delete(JobStepFile).where(JobStepFile.job_id.in_(gone)))
            _quietly(session, update(JobStep).where(JobStep.job_id.in_(gone)).values(expired=True))
            _quietly(session, update(Job).where(Job.id.in_(gone)).values(stored_bytes=0))
            stored_bytes.add_all(session, freed)
        return len(gone), _end(found, batches.ROWS)

    return some


def _events(seconds: float) -> Batch:
    old = (Job.events_gone_at.is_(None), Job.finished_at.is_not(None))

    def some(session: Session, position: Position | None) -> tuple[int, Position | None]:
        found = _next(session, Job, Job.finished_at, seconds, old, position, batches.ROWS)
        gone = {row.id for row in found}
        if gone:
            _quietly(session, delete(JobEventRow).where(JobEventRow.job_id.in_(gone)))
            _quietly(session, update(Job).where(Job.id.in_(gone)).values(events_gone_at=now()))
        return len(gone), _end(found, batches.ROWS)

    return some


def _logs(database: Database, seconds: float) -> int:
    """Of all jobs: one that has not ended for that long keeps its newer pieces."""
    return batches.remove(database, JobLogRow, JobLogRow.created_at, seconds)


def _tombstones(database: Database, seconds: float) -> int:
    buried = Job.deleted_at.is_not(None)
    jobs = batches.remove(database, Job, Job.deleted_at, seconds, buried)
    if jobs:
        with database.write() as session:
            jobs += sweeps.forget(session)
    return jobs + batches.remove(database, Upload, Upload.gone_at, seconds)


def _next(
    session: Session,
    table: type[Job] | type[Upload],
    since: Any,
    seconds: float,
    old: Sequence[ColumnElement[bool]],
    position: Position | None,
    most: int,
) -> Sequence[Row[str, Any]]:
    """The next rows whose moment `since` lies more than `seconds` back, by age, locked. One that somebody else holds now is left
    for the next time."""
    query = select(table.id, since.label("moment")).where(*old, since < moment(session, -seconds))
    if position is not None:
        query = query.where(tuple_(since, table.id) > at(position, (since, table.id)))
    query = query.order_by(since, table.id).limit(most)
    return session.execute(query.with_for_update(of=table, skip_locked=True)).all()


def _end(found: Sequence[Row[str, Any]], most: int) -> Position | None:
    return (found[-1].moment, found[-1].id) if len(found) == most else None


def _quietly(session: Session, statement: Any) -> None:
    session.execute(statement.execution_options(synchronize_session=False))
