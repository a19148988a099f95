"""Deletes what the owner no longer wants. A row remains as a tombstone; store/files/orphans.py removes the bytes."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from store.database import stored_bytes
from store.database.clock import now
from store.database.tables import (
    DatasetSample,
    Job,
    JobEventRow,
    JobLabel,
    JobLogRow,
    JobStep,
    ResumableUpload,
    Upload,
    UploadFile,
)
from store.database.tables.jobs import LIVING
from store.database.tenancy import owned_by


def delete_job(session: Session, tenant: str, job_id: str) -> bool:
    """Remove a job that has ended: its steps, events, logs and labels. False if it has not ended, or no longer exists.

    Raises CONFLICT if an unfinished job continues from one of its steps.
    """
    # Locked before the jobs are read, as below.
    ended = (owned_by(Job, tenant), Job.id == job_id, Job.state.in_(TERMINAL_STATES), Job.deleted_at.is_(None))
    if session.scalar(select(Job.id).where(*ended).with_for_update(of=Job)) is None:
        return False
    if needed_among(session, {job_id}):
        detail = f"A job that has not ended uses a step of {job_id}. Cancel it or wait until it ends, then delete."
        raise SecateurError(ErrorCode.CONFLICT, detail)
    bury(session, {job_id})
    return True


def bury(session: Session, job_ids: Collection[str]) -> None:
    """Remove everything of these jobs except their tombstones; they are locked, and have ended."""
    if not job_ids:
        return
    mine = Job.id.in_(job_ids)
    freed: dict[str, int] = {}
    for tenant, size in session.execute(select(Job.tenant, Job.stored_bytes).where(mine)):
        freed[tenant] = freed.get(tenant, 0) - size
    gone: dict[str, Any] = {"name": None, "training": None, "result": None, "data": None, "stored_bytes": 0}
    gone |= {"deleted_at": now(), "events_gone_at": now()}
    session.execute(update(Job).where(mine).values(gone).execution_options(synchronize_session=False))
    for table in (JobStep, JobEventRow, JobLogRow, JobLabel):
        session.execute(delete(table).where(table.job_id.in_(job_ids)).execution_options(synchronize_session=False))
    stored_bytes.add_all(session, freed)


def delete_ready_upload(session: Session, tenant: str, upload_id: str) -> bool:
    """Remove a complete upload. False if it is not complete, or no longer exists.

    Raises CONFLICT if an unfinished job needs it.
    """
    mine = (owned_by(Upload, tenant), Upload.id == upload_id, Upload.state == UploadState.READY)
    # Locked before the jobs are read: a job that is being submitted locks its inputs until its row is visible.
    if session.scalar(select(Upload.id).where(*mine).with_for_update(of=Upload)) is None:
        return False
    if needed_among(session, {upload_id}):
        detail = f"A job that has not ended uses {upload_id}. Cancel it or wait until it ends, then delete."
        raise SecateurError(ErrorCode.CONFLICT, detail)
    session.execute(update(Upload).where(*mine).values(name=None))
    give_up(session, {upload_id}, UploadState.DELETED)
    return True


def give_up(session: Session, upload_ids: Collection[str], state: UploadState) -> None:
    """Stop referencing the files of these uploads, which are locked; their rows stay as tombstones in `state`."""
    if not upload_ids:
        return
    mine = Upload.id.in_(upload_ids)
    freed: dict[str, int] = {}
    for tenant, size in session.execute(select(Upload.tenant, Upload.size).where(mine)):
        freed[tenant] = freed.get(tenant, 0) - size
    session.execute(update(Upload).where(mine).values(state=state, gone_at=now()))
    session.execute(update(UploadFile).where(UploadFile.upload_id.in_(upload_ids)).values(key=None))
    session.execute(delete(DatasetSample).where(DatasetSample.upload_id.in_(upload_ids)))
    session.execute(delete(ResumableUpload).where(ResumableUpload.upload_id.in_(upload_ids)))
    stored_bytes.add_all(session, freed)


def needed_among(session: Session, found: Collection[str]) -> set[str]:
    """Those of `found` that unfinished jobs need: uploads, and jobs from whose steps they continue."""
    needed: set[str] = set()
    if not found:
        return needed
    for column in (Job.model_id, Job.dataset_id):
        living = select(column).where(column.in_(found), text(LIVING)).distinct()
        needed |= {each for each in session.scalars(living) if each is not None}
    return needed
