"""What is kept for how long: uploads that were never completed, uploads, and the checkpoints of jobs that have ended.

What expires keeps its rows, as a tombstone that says so; only files go. Here they lose their names: store/orphans.py then
removes bytes that nothing names. What a living job needs never expires.
"""

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, UploadState
from store.clock import now
from store.database import Database
from store.settings import Settings
from store.tables import Job, JobStep, JobStepFile, Upload, UploadFile

BATCH = 500


@dataclass(frozen=True)
class Expired:
    """How many."""

    uploads: int
    jobs: int


def expire(database: Database, settings: Settings) -> Expired:
    """Let go of what is older than the settings say. Several may run at once."""
    uploads = _expire_uploads(database, UploadState.OPEN, settings.open_upload_seconds)
    if settings.upload_retention_seconds is not None:
        uploads += _expire_uploads(database, UploadState.READY, settings.upload_retention_seconds)
    jobs = 0
    if settings.result_retention_seconds is not None:
        jobs = _expire_results(database, settings.result_retention_seconds)
    return Expired(uploads, jobs)


def _expire_uploads(database: Database, state: UploadState, seconds: float) -> int:
    with database.write() as session:
        old = select(Upload.id).where(Upload.state == state, Upload.created_at < now(plus=-seconds))
        # Locked before the jobs are read: a job that is being submitted holds its inputs until it is there to be read.
        found = set(session.scalars(old.order_by(Upload.id).limit(BATCH).with_for_update(of=Upload)))
        gone = found - _needed(session)
        session.execute(update(Upload).where(Upload.id.in_(gone)).values(state=UploadState.EXPIRED))
        session.execute(update(UploadFile).where(UploadFile.upload_id.in_(gone)).values(key=None))
    return len(gone)


def _needed(session: Session) -> set[str]:
    """Inputs of jobs that have not ended: uploads, and jobs that a step is taken of."""
    needed = set()
    for lineage in session.scalars(select(Job.lineage).where(Job.state.not_in(TERMINAL_STATES))):
        needed |= {lineage[kind] for kind in ("model", "dataset") if kind in lineage}
    return needed


def _expire_results(database: Database, seconds: float) -> int:
    with database.write() as session:
        kept = select(JobStep.job_id).where(~JobStep.expired)
        old = select(Job.id).where(
            Job.state.in_(TERMINAL_STATES), Job.finished_at < now(plus=-seconds), Job.id.in_(kept)
        )
        # Locked before the jobs that need them are read, as above.
        found = set(session.scalars(old.order_by(Job.id).limit(BATCH).with_for_update(of=Job)))
        gone = found - _needed(session)
        session.execute(delete(JobStepFile).where(JobStepFile.job_id.in_(gone)))
        session.execute(update(JobStep).where(JobStep.job_id.in_(gone)).values(expired=True))
    return len(gone)
