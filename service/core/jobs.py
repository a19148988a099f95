"""Reading jobs, their events and logs; cancelling, pausing and resuming them."""

from collections.abc import Sequence

from api_schemas.enums import AuditAction, JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.events import JobEvent
from api_schemas.resources import JobResource, Page
from service.core import views
from service.services import Services
from store import jobs, logs, transitions
from store.logs import LogPiece

LOG_PIECE_BYTES = 2**20


def get(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        job = jobs.get(session, services.tenant, job_id)
        if job is None:
            raise absent(job_id)
        return views.job(job, jobs.steps(session, services.tenant, job_id))


def page(services: Services, cursor: str | None, limit: int, state: JobState | None) -> Page[JobResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = jobs.page(session, services.tenant, cursor, limit, state)
        steps = jobs.steps_of(session, services.tenant, [job.id for job in rows.items])
        return views.page(rows, [views.job(job, steps[job.id]) for job in rows.items])


def events(services: Services, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        if jobs.get(session, services.tenant, job_id) is None:
            raise absent(job_id)
        return jobs.events_after(session, services.tenant, job_id, after, limit)


def cancel(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, or CONFLICT where the job has ended."""
    with services.database.write() as session:
        transitions.cancel(session, services.tenant, job_id)
        services.note(session, AuditAction.CANCEL_JOB, job_id)
    return get(services, job_id)


def pause(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, or CONFLICT where the job is ending or has ended."""
    with services.database.write() as session:
        transitions.pause(session, services.tenant, job_id)
        services.note(session, AuditAction.PAUSE_JOB, job_id)
    return get(services, job_id)


def resume(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, or CONFLICT where the job is ending or has ended."""
    with services.database.write() as session:
        transitions.resume(session, services.tenant, job_id)
        services.note(session, AuditAction.RESUME_JOB, job_id)
    return get(services, job_id)


def log_of(services: Services, job_id: str, attempt: int | None, offset: int) -> tuple[LogPiece, Sequence[int]]:
    """A piece of the log of an attempt, the newest by default, and which attempts have one. Raises NOT_FOUND."""
    with services.database.read() as session:
        if jobs.get(session, services.tenant, job_id) is None:
            raise absent(job_id)
        found = logs.attempts(session, services.tenant, job_id)
        if attempt is not None and attempt not in found:
            raise SecateurError(
                ErrorCode.NOT_FOUND, f"Attempt {attempt} of the job has no log; there are {list(found)}."
            )
        chosen = attempt or (found[-1] if found else 1)
        return logs.read(session, services.tenant, job_id, chosen, offset, LOG_PIECE_BYTES), found


def absent(job_id: str) -> SecateurError:
    return SecateurError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
