"""Whether the service is alive, whether it can do its work, and what it accepts."""

from fastapi import APIRouter, Response

from api_schemas.api.resources import Health, Limits, Quota, Quotas
from checkpoints.families import ALL_FAMILIES
from service.access.turns import FairRoute
from service.dependencies import Public, ToLookAround
from service.openapi.document import RETRY_AFTER, problems
from service.problems import RETRY_SECONDS
from service.readiness import OK
from store.access import quotas
from store.files.model_buckets import parse_buckets
from store.uploads.inspection import dataset_names
from store.uploads.inspection.models import folder as model_folder

router = APIRouter(tags=["service"], route_class=FairRoute)
limits_router = APIRouter(tags=["service"], route_class=FairRoute)


@router.get("/healthz", operation_id="get_health", summary="Liveness check", responses=problems())
async def get_health() -> Health:
    """Checks no other component: use it to restart a process that hangs."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Readiness check",
    responses={
        503: {
            "description": "A component that the service needs does not respond; `checks` says which.",
            "model": Health,
            "headers": RETRY_AFTER,
        },
        **{status: body for status, body in problems().items() if status != 503},
    },
)
async def get_readiness(services: Public, response: Response) -> Health:
    """Checks database, broker and artifact store now: for deciding whether to send requests to this process.

    Without the broker, jobs are still accepted and start when it is back; the response is 503 nevertheless.
    """
    checks = await services.readiness.ask()
    ready = all(answer == OK for answer in checks.values())
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return Health(status=OK if ready else "unavailable", checks=checks)


@limits_router.get("/limits", operation_id="get_limits", summary="Get the limits of this server", responses=problems())
def get_limits(services: ToLookAround) -> Limits:
    """Returns sizes, file types and model families, and the quotas of the key's tenant with their usage."""
    settings = services.settings
    with services.database.read() as session:
        used = quotas.usage(session, services.tenant)
    return Limits(
        max_file_bytes=settings.max_file_bytes,
        max_files=settings.max_files,
        max_json_bytes=settings.max_json_bytes,
        model_file_suffixes=model_folder.SUFFIXES,
        dataset_file_suffixes=dataset_names.SUFFIXES,
        families=tuple(family.name for family in ALL_FAMILIES),
        model_buckets=tuple(sorted(parse_buckets(settings.model_buckets))),
        scopes=tuple(sorted(services.caller.scopes)),
        quotas=Quotas(
            requests_per_minute=Quota(
                limit=settings.requests_per_minute, used=services.rate_limits.used(services.tenant)
            ),
            stored_bytes=Quota(limit=settings.max_stored_bytes, used=used.stored_bytes),
            waiting_jobs=Quota(limit=settings.max_waiting_jobs, used=used.waiting_jobs),
            running_jobs=Quota(limit=settings.max_running_jobs, used=used.running_jobs),
        ),
    )
