"""What a tenant uses, and its quotas. Bytes and waiting jobs are checked where they are added; the claim itself limits running
jobs (store/jobs/transitions.py)."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from store.database import stored_bytes
from store.database.locks import one_at_a_time
from store.database.tables import Job
from store.database.tenancy import owned_by
from store.settings import Settings

WAITING = (JobState.QUEUED, JobState.PAUSED)
RUNNING = (JobState.RUNNING, JobState.CANCELLING)
RETRY_SECONDS = 60
"""Room appears when something ends or is removed; that time cannot be predicted."""


@dataclass(frozen=True)
class Usage:
    """Of one tenant, now."""

    stored_bytes: int
    waiting_jobs: int
    running_jobs: int


def usage(session: Session, tenant: str) -> Usage:
    """What counts against the quotas."""
    return Usage(stored_bytes.of(session, tenant), _jobs(session, tenant, WAITING), _jobs(session, tenant, RUNNING))


def check_upload(session: Session, tenant: str, settings: Settings, size: int) -> None:
    """Room for `size` more bytes, kept until this transaction ends. Raises QUOTA_EXCEEDED."""
    most = settings.max_stored_bytes
    if most is None:
        return
    one_at_a_time(session, f"bytes of {tenant}")
    used = stored_bytes.of(session, tenant)
    if used + size > most:
        detail = (
            f"{size} more bytes do not fit in the quota: {used} of {most} are in use by checkpoints and uploads "
            "(including declared ones). Delete uploads or jobs that you no longer need."
        )
        raise SecateurError(ErrorCode.QUOTA_EXCEEDED, detail, retry_after=RETRY_SECONDS)


def check_jobs(session: Session, tenant: str, settings: Settings, more: int = 1) -> None:
    """Room for so many `more` jobs, kept until this transaction ends. Raises QUOTA_EXCEEDED."""
    most = settings.max_waiting_jobs
    if most is not None:
        one_at_a_time(session, f"jobs of {tenant}")
        waiting = _jobs(session, tenant, WAITING)
        if waiting + more > most:
            instead = "submit again when another has started" if more == 1 else f"submit fewer than {more} at once"
            detail = f"{waiting} jobs are waiting; the maximum is {most}. Cancel one, or {instead}."
            raise SecateurError(ErrorCode.QUOTA_EXCEEDED, detail, retry_after=RETRY_SECONDS)
    if (
        settings.max_stored_bytes is not None
        and (used := stored_bytes.of(session, tenant)) >= settings.max_stored_bytes
    ):
        detail = (
            f"{used} of {settings.max_stored_bytes} bytes are in use, and the job's checkpoints need more. Delete "
            "uploads or jobs that you no longer need."
        )
        raise SecateurError(ErrorCode.QUOTA_EXCEEDED, detail, retry_after=RETRY_SECONDS)


def _jobs(session: Session, tenant: str, states: tuple[JobState, ...]) -> int:
    # None of these can have been deleted; said for the sake of the index.
    mine = (owned_by(Job, tenant), Job.state.in_(states), Job.deleted_at.is_(None))
    return session.scalar(select(func.count()).select_from(Job).where(*mine)) or 0
