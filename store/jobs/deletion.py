"""Removing what its owner does not want any more. A row stays as a tombstone; store/files/orphans.py removes the bytes."""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from store.database.clock import now
from store.database.tables import Job, JobEventRow, JobLabel, JobLogRow, JobStep, Upload, UploadFile
from store.database.tenancy import owned_by


def delete_job(session: Session, tenant: str, job_id: str) -> bool:
    """Remove a job that has ended: its steps, events, logs and labels. False where it has not ended, or is no more.

    Raises CONFLICT where a job that has not ended goes on from one of its steps.
    """
    # Locked before the jobs are read, as below.
    session.execute(select(Job.id).where(owned_by(Job, tenant), Job.id == job_id).with_for_update(of=Job))
    if job_id in needed_inputs(session):
        detail = (
            f"A job that has not ended goes on from a step of {job_id}. Cancel it or wait for its end, then delete."
        )
        raise SecateurError(ErrorCode.CONFLICT, detail)
    ended = (owned_by(Job, tenant), Job.id == job_id, Job.state.in_(TERMINAL_STATES), Job.deleted_at.is_(None))
    gone = update(Job).where(*ended).values(deleted_at=now(), name=None, training=None, result=None, data=None)
    if (
        session.execute(gone.returning(Job.id).execution_options(synchronize_session=False)).scalar_one_or_none()
        is None
    ):
        return False
    for table in (JobStep, JobEventRow, JobLogRow, JobLabel):
        session.execute(delete(table).where(owned_by(table, tenant), table.job_id == job_id))
    return True


def delete_ready_upload(session: Session, tenant: str, upload_id: str) -> bool:
    """Remove a complete upload. False where it is not complete, or is no more.

    Raises CONFLICT where a job that has not ended needs it.
    """
    mine = (owned_by(Upload, tenant), Upload.id == upload_id, Upload.state == UploadState.READY)
    # Locked before the jobs are read: a job that is being submitted holds its inputs until it is there to be read.
    if session.scalar(select(Upload.id).where(*mine).with_for_update(of=Upload)) is None:
        return False
    if upload_id in needed_inputs(session):
        detail = f"A job that has not ended needs {upload_id}. Cancel it or wait for its end, then delete."
        raise SecateurError(ErrorCode.CONFLICT, detail)
    session.execute(update(Upload).where(*mine).values(state=UploadState.DELETED, name=None))
    files = update(UploadFile).where(owned_by(UploadFile, tenant), UploadFile.upload_id == upload_id)
    session.execute(files.values(key=None))
    return True


def needed_inputs(session: Session) -> set[str]:
    """Uploads that jobs need which have not ended, and jobs that they go on from a step of."""
    needed = set()
    for lineage in session.scalars(select(Job.lineage).where(Job.state.not_in(TERMINAL_STATES))):
        needed |= {lineage[kind] for kind in ("model", "dataset") if kind in lineage}
    return needed
