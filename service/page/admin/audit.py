"""`/audit`: who changed what, and what was denied."""

from fastapi import APIRouter, Request, Response

from service.access.turns import FairRoute
from service.dependencies import ToAdminister
from service.page.rendering import answer
from service.routes import api_keys, audit
from service.routes.parameters import Cursor

PAGE = 50
NAMED = 100
"""Newest keys whose names are shown; of others the identifier."""

router = APIRouter(route_class=FairRoute)


@router.get("/audit", include_in_schema=False)
def audit_page(services: ToAdminister, request: Request, cursor: Cursor = None) -> Response:
    """Newest first."""
    page = audit.list_audit(services, cursor, PAGE)
    names = {key.id: key.name for key in api_keys.list_keys(services, None, NAMED).items}
    return answer(
        request,
        "admin/audit.html.j2",
        entries=page.items,
        names=names,
        older=page.next_cursor,
        newest=cursor is not None,
    )
