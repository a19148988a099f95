"""What is kept for how long: uploads that were never completed, uploads, checkpoints of jobs that have ended, and answers
to idempotency keys.

What expires keeps its rows, as a tombstone that says so; only files go. Here they lose their names: store/files/orphans.py then
removes bytes that nothing names. What a living job needs never expires.
"""

from dataclasses import dataclass

from sqlalchemy import delete, select, update

from api_schemas.enums import TERMINAL_STATES, UploadState
from store.access import audit, idempotency, sessions
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, JobStep, JobStepFile, ResumableUpload, Upload, UploadFile
from store.jobs.deletion import needed_inputs
from store.settings import Settings

BATCH = 500


@dataclass(frozen=True)
class Expired:
    """How many."""

    uploads: int
    jobs: int
    audit: int = 0
    keys: int = 0
    """Of idempotency, with the answers kept for them."""
    sessions: int = 0
    """Of browsers."""


def expire(database: Database, settings: Settings) -> Expired:
    """Let go of what is older than the settings say. Several may run at once."""
    uploads = _expire_uploads(database, UploadState.OPEN, settings.open_upload_seconds)
    if settings.upload_retention_seconds is not None:
        uploads += _expire_uploads(database, UploadState.READY, settings.upload_retention_seconds)
    jobs = 0
    if settings.result_retention_seconds is not None:
        jobs = _expire_results(database, settings.result_retention_seconds)
    noted = 0
    if settings.audit_retention_seconds is not None:
        noted = audit.expire(database, settings.audit_retention_seconds)
    with database.write() as session:
        keys = idempotency.sweep(session)
        over = sessions.sweep(session)
    return Expired(uploads, jobs, noted, keys, over)


def _expire_uploads(database: Database, state: UploadState, seconds: float) -> int:
    with database.write() as session:
        old = select(Upload.id).where(Upload.state == state, Upload.created_at < now(plus=-seconds))
        # Locked before the jobs are read: a job that is being submitted holds its inputs until it is there to be read.
        found = set(session.scalars(old.order_by(Upload.id).limit(BATCH).with_for_update(of=Upload)))
        gone = found - needed_inputs(session)
        session.execute(update(Upload).where(Upload.id.in_(gone)).values(state=UploadState.EXPIRED))
        session.execute(update(UploadFile).where(UploadFile.upload_id.in_(gone)).values(key=None))
        session.execute(delete(ResumableUpload).where(ResumableUpload.upload_id.in_(gone)))
    return len(gone)


def _expire_results(database: Database, seconds: float) -> int:
    with database.write() as session:
        kept = select(JobStep.job_id).where(~JobStep.expired)
        old = select(Job.id).where(
            Job.state.in_(TERMINAL_STATES), Job.finished_at < now(plus=-seconds), Job.id.in_(kept)
        )
        # Locked before the jobs that need them are read, as above.
        found = set(session.scalars(old.order_by(Job.id).limit(BATCH).with_for_update(of=Job)))
        gone = found - needed_inputs(session)
        session.execute(delete(JobStepFile).where(JobStepFile.job_id.in_(gone)))
        session.execute(update(JobStep).where(JobStep.job_id.in_(gone)).values(expired=True))
    return len(gone)
