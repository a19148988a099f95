"""The list of workers, for administrators. Workers serve every tenant; only the tenant of a running job sees which job it is."""

from api_schemas.api.resources import Page
from api_schemas.api.workers import WorkerResource
from service.services import Services
from store.jobs.workers import live_workers
from store.jobs.workers.live_workers import Listed


def page(services: Services, cursor: str | None, limit: int) -> Page[WorkerResource]:
    """Newest first."""
    with services.database.read() as session:
        found, next_cursor = live_workers.page(session, cursor, limit)
    return Page(items=tuple(_resource(each, services.tenant) for each in found), next_cursor=next_cursor)


def _resource(found: Listed, tenant: str) -> WorkerResource:
    row = found.row
    mine = found.job is not None and found.job[0] == tenant
    return WorkerResource(
        id=row.id,
        name=row.name,
        host=row.host,
        device=row.device,
        device_name=row.device_name,
        device_memory_bytes=row.device_memory_bytes,
        host_memory_bytes=row.host_memory_bytes,
        started_at=row.created_at,
        seen_at=row.seen_at,
        alive=found.alive,
        busy=found.job is not None,
        job=found.job[1] if found.job is not None and mine else None,
    )
