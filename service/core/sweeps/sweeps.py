"""Reading sweeps; cancelling, pausing, resuming and deleting all jobs of one."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from api_schemas.api.resources import Page
from api_schemas.api.sweeps import SweepDetail, SweepResource
from api_schemas.enums import AuditAction
from api_schemas.errors import ErrorCode, SecateurError
from service.core import resources
from service.core.sweeps import table
from service.services import Services
from store.database.tables import Sweep
from store.jobs import jobs, sweeps


def get(services: Services, sweep_id: str) -> SweepDetail:
    """Raises NOT_FOUND, or DELETED."""
    with services.database.read() as session:
        return detail(session, services, _find(session, services, sweep_id))


def detail(session: Session, services: Services, sweep: Sweep) -> SweepDetail:
    """With its table."""
    found = sweeps.jobs_of(session, services.tenant, sweep.id)
    metrics = jobs.metrics(session, services.tenant, [job for job in found if job.deleted_at is None])
    counts = sweeps.counts(session, services.tenant, [sweep.id])[sweep.id]
    return table.detail(sweep, counts, found, metrics)


def page(services: Services, cursor: str | None, limit: int) -> Page[SweepResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = sweeps.page(session, services.tenant, cursor, limit)
        counts = sweeps.counts(session, services.tenant, [sweep.id for sweep in rows.items])
        return resources.page(rows, [table.summary(sweep, counts[sweep.id]) for sweep in rows.items])


def cancel(services: Services, sweep_id: str) -> SweepDetail:
    """Raises NOT_FOUND, DELETED, or CONFLICT where all jobs have ended."""
    return _steer(services, sweep_id, sweeps.cancel, AuditAction.CANCEL_SWEEP, "cancelled")


def pause(services: Services, sweep_id: str) -> SweepDetail:
    """Raises NOT_FOUND, DELETED, or CONFLICT where all jobs have ended."""
    return _steer(services, sweep_id, sweeps.pause, AuditAction.PAUSE_SWEEP, "paused")


def resume(services: Services, sweep_id: str) -> SweepDetail:
    """Raises NOT_FOUND, DELETED, or CONFLICT where all jobs have ended."""
    return _steer(services, sweep_id, sweeps.resume, AuditAction.RESUME_SWEEP, "resumed")


def delete(services: Services, sweep_id: str) -> None:
    """With its jobs. Raises NOT_FOUND, DELETED, or CONFLICT where a job has not ended, or is needed."""
    with services.database.write() as session:
        _find(session, services, sweep_id)
        if not sweeps.remove(session, services.tenant, sweep_id):
            detail = "A job of this sweep has not ended. Cancel the sweep or wait until it ends, then delete it."
            raise SecateurError(ErrorCode.CONFLICT, detail)
        services.note(session, AuditAction.DELETE_SWEEP, sweep_id)


def _steer(
    services: Services, sweep_id: str, move: Callable[[Session, str, str], int], action: AuditAction, wish: str
) -> SweepDetail:
    with services.database.write() as session:
        sweep = _find(session, services, sweep_id)
        if not move(session, services.tenant, sweep_id):
            raise SecateurError(ErrorCode.CONFLICT, f"All jobs of this sweep have ended; it cannot be {wish}.")
        services.note(session, action, sweep_id)
        return detail(session, services, sweep)


def _find(session: Session, services: Services, sweep_id: str) -> Sweep:
    sweep = sweeps.get(session, services.tenant, sweep_id)
    if sweep is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no sweep {sweep_id}.")
    if sweep.deleted_at is not None:
        raise SecateurError(ErrorCode.DELETED, f"Sweep {sweep_id} was deleted.")
    return sweep
