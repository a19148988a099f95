"""Reading and cancelling jobs."""

from collections.abc import Sequence

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.events import JobEvent
from api_schemas.resources import JobResource, Page
from service.core import views
from service.services import Services
from store import jobs, transitions


def get(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        job = jobs.get(session, job_id)
        if job is None:
            raise absent(job_id)
        return views.job(job, jobs.steps(session, job_id))


def page(services: Services, cursor: str | None, limit: int, state: JobState | None) -> Page[JobResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = jobs.page(session, cursor, limit, state)
        steps = jobs.steps_of(session, [job.id for job in rows.items])
        return views.page(rows, [views.job(job, steps[job.id]) for job in rows.items])


def events(services: Services, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        if jobs.get(session, job_id) is None:
            raise absent(job_id)
        return jobs.events_after(session, job_id, after, limit)


def cancel(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, or CONFLICT where the job has ended."""
    with services.database.write() as session:
        transitions.cancel(session, job_id)
    return get(services, job_id)


def absent(job_id: str) -> SecateurError:
    return SecateurError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
