"""`/keys`: the keys of a tenant without their tokens. The page creates and revokes them through the API."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from api_schemas.api.access import KeyResource
from api_schemas.enums import KeyScope
from service.access.turns import FairRoute
from service.dependencies import ToAdminister
from service.page.rendering import answer, part_wanted
from service.routes import api_keys
from service.routes.parameters import Cursor

PAGE = 50
DAYS = (7, 30, 90, 365)
"""Choices of how long a key is valid."""
ALLOWS = {
    KeyScope.JOBS_READ: "read jobs, sweeps and webhooks; download checkpoints",
    KeyScope.JOBS_WRITE: "submit and control jobs and sweeps, change webhooks; includes jobs:read",
    KeyScope.MODELS_WRITE: "upload and delete models and datasets",
    KeyScope.ADMIN: "manage keys, read the audit log and see the workers",
}

router = APIRouter(route_class=FairRoute)


def state_of(key: KeyResource, now: datetime) -> str:
    """`active`, `expired` or `revoked`."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


@router.get("/keys", include_in_schema=False)
def keys_page(services: ToAdminister, request: Request, cursor: Cursor = None) -> Response:
    """The whole page, or its table alone. Newest first."""
    page = api_keys.list_keys(services, cursor, PAGE)
    now = datetime.now(UTC)
    return answer(
        request,
        "admin/key_table.html.j2" if part_wanted(request) == "keys" else "admin/keys.html.j2",
        found=[(key, state_of(key, now)) for key in page.items],
        own=services.caller.key_id,
        allows=ALLOWS,
        days=DAYS,
        today=now.date().isoformat(),
        older=page.next_cursor,
        newest=cursor is not None,
    )
