"""Reading jobs, their events and logs; cancelling, pausing, resuming and deleting them."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from api_schemas.api.resources import JobResource, Page
from api_schemas.enums import TERMINAL_STATES, AuditAction, JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import JobEvent
from api_schemas.results.metrics import StepMetrics
from service.core import resources
from service.services import Services
from store.database.clock import moment
from store.database.tables import Job
from store.jobs import deletion, job_lists, jobs, logs, preemption, transitions
from store.jobs.job_lists import JobFilter
from store.jobs.logs import LogPiece
from store.jobs.workers import capabilities

LOG_PIECE_BYTES = 2**20


def get(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        job = find_job(session, services, job_id)
        [metrics] = jobs.metrics(session, services.tenant, [job]).values()
        return _resource(session, services, job, metrics)


def page(services: Services, cursor: str | None, limit: int, wanted: JobFilter) -> Page[JobResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = job_lists.page(session, services.tenant, cursor, limit, wanted)
        metrics = jobs.metrics(session, services.tenant, rows.items)
        queued = [job.id for job in rows.items if job.state is JobState.QUEUED]
        position = services.queue_positions.of(session, queued) if queued else {}
        items = [
            resources.job(
                job, metrics[job.id], services.settings, position.get(job.id), waiting_reason(session, services, job)
            )
            for job in rows.items
        ]
        return resources.page(rows, items)


def events(services: Services, job_id: str, after: int, limit: int) -> tuple[Sequence[JobEvent], JobState]:
    """And the state of the job. Raises NOT_FOUND, DELETED, or EXPIRED."""
    with services.database.read() as session:
        job = find_job(session, services, job_id)
        _require_events(job)
        return jobs.events_after(session, services.tenant, job_id, after, limit), job.state


def newest_events(services: Services, job_id: str, kinds: Sequence[str], most: int) -> Sequence[JobEvent]:
    """The newest of these types, in order; none where they were kept for their time. Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        find_job(session, services, job_id)
        return jobs.newest_events(session, services.tenant, job_id, kinds, most)


def stream_from(services: Services, job_id: str, after: int) -> tuple[int, bool]:
    """Number of the newest event, and whether there is nothing to send above `after`, now or later: the job has ended, and those
    events were sent or are gone. Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        job = find_job(session, services, job_id)
        done = after >= job.last_seq or job.events_gone_at is not None
        return job.last_seq, done and job.state in TERMINAL_STATES


def last_event(services: Services, job_id: str) -> tuple[int, bool]:
    """Number of the newest event, and whether it is the last there will be. Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        job = find_job(session, services, job_id)
        return job.last_seq, job.state in TERMINAL_STATES


def cancel(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, DELETED, or CONFLICT where the job has ended."""
    with services.database.write() as session:
        find_job(session, services, job_id)
        transitions.cancel(session, services.tenant, job_id)
        services.note(session, AuditAction.CANCEL_JOB, job_id)
    return get(services, job_id)


def pause(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, DELETED, or CONFLICT where the job is ending or has ended."""
    with services.database.write() as session:
        find_job(session, services, job_id)
        transitions.pause(session, services.tenant, job_id)
        services.note(session, AuditAction.PAUSE_JOB, job_id)
    return get(services, job_id)


def resume(services: Services, job_id: str) -> JobResource:
    """Raises NOT_FOUND, DELETED, or CONFLICT where the job is ending or has ended."""
    with services.database.write() as session:
        find_job(session, services, job_id)
        transitions.resume(session, services.tenant, job_id)
        services.note(session, AuditAction.RESUME_JOB, job_id)
    return get(services, job_id)


def log_of(services: Services, job_id: str, attempt: int | None, offset: int | None) -> tuple[LogPiece, Sequence[int]]:
    """A piece of the log of an attempt, the newest by default, and which attempts have one. Without `offset` its end.

    Raises NOT_FOUND, DELETED, or EXPIRED.
    """
    with services.database.read() as session:
        job = find_job(session, services, job_id)
        attempts = logs.attempts(session, services.tenant, job_id)
        kept = resources.logs_expire_at(job, services.settings)
        if not attempts and kept is not None and kept < moment(session):
            raise SecateurError(ErrorCode.EXPIRED, "The log of this job has expired and was removed.")
        if attempt is not None and attempt not in attempts:
            raise SecateurError(
                ErrorCode.NOT_FOUND, f"Attempt {attempt} of the job has no log; attempts with a log: {list(attempts)}."
            )
        chosen = attempt or (attempts[-1] if attempts else 1)
        if offset is None:
            return logs.read_end(session, services.tenant, job_id, chosen, LOG_PIECE_BYTES), attempts
        return logs.read(session, services.tenant, job_id, chosen, offset, LOG_PIECE_BYTES), attempts


def delete(services: Services, job_id: str) -> None:
    """Raises NOT_FOUND, DELETED, or CONFLICT where the job has not ended."""
    with services.database.write() as session:
        state = find_job(session, services, job_id).state
        if not deletion.delete_job(session, services.tenant, job_id):
            detail = f"The job is {state.value}. Cancel it or wait until it ends, then delete it."
            raise SecateurError(ErrorCode.CONFLICT, detail)
        services.note(session, AuditAction.DELETE_JOB, job_id)


def find_job(session: Session, services: Services, job_id: str) -> Job:
    """The job, where there is one. Raises NOT_FOUND, or DELETED."""
    job = jobs.get(session, services.tenant, job_id)
    if job is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
    if job.deleted_at is not None:
        detail = f"Job {job_id} was deleted, by its owner or because its retention time ended."
        raise SecateurError(ErrorCode.DELETED, detail)
    return job


def _require_events(job: Job) -> None:
    if job.events_gone_at is not None:
        raise SecateurError(ErrorCode.EXPIRED, "The events of this job have expired and were removed.")


def submitted(session: Session, services: Services, job: Job) -> JobResource:
    """One that has just been made."""
    return _resource(session, services, job, ())


def _resource(session: Session, services: Services, job: Job, metrics: Sequence[StepMetrics]) -> JobResource:
    place, reason = queue_position(session, services, job), waiting_reason(session, services, job)
    return resources.job(job, metrics, services.settings, place, reason)


def waiting_reason(session: Session, services: Services, job: Job) -> str | None:
    """What a queued job needs that no worker has, or that it gave its worker to another; None where nothing is in its way."""
    if job.state is not JobState.QUEUED:
        return None
    missing = services.workers.fleet(session).waiting_reason(capabilities.of_job(job))
    return missing or (preemption.REASON if job.yields_to is not None else None)


def queue_position(session: Session, services: Services, job: Job) -> int | None:
    """In the queue, where the job waits in it."""
    if job.state is not JobState.QUEUED:
        return None
    return services.queue_positions.of(session, [job.id]).get(job.id)
