"""`/limits`: how much of its quotas the tenant uses, and what the server accepts."""

from fastapi import APIRouter, Request, Response

from api_schemas.formatting import file_size
from service.access.turns import FairRoute
from service.dependencies import ToLookAround
from service.page.rendering import answer
from service.routes import health

router = APIRouter(route_class=FairRoute)


@router.get("/limits", include_in_schema=False)
def limits_page(services: ToLookAround, request: Request) -> Response:
    """As `GET /v1/limits` answers."""
    limits = health.get_limits(services)
    quotas = limits.quotas
    rows = (
        ("Storage", quotas.stored_bytes, file_size, "Uploads, including declared ones, and checkpoints."),
        ("Waiting jobs", quotas.waiting_jobs, str, "Jobs that are queued or paused."),
        ("Running jobs", quotas.running_jobs, str, "Further jobs are not rejected; they wait."),
        ("Requests per minute", quotas.requests_per_minute, str, "All keys of the tenant together."),
    )
    return answer(request, "admin/limits.html.j2", limits=limits, rows=rows)
