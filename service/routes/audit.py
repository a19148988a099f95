"""The audit log."""

from fastapi import APIRouter

from api_schemas.api.access import AuditEntry
from api_schemas.api.resources import Page
from service.access.turns import FairRoute
from service.core import resources
from service.dependencies import ToAdminister
from service.openapi.document import problems
from service.routes.parameters import Cursor, Limit
from store.access import audit

router = APIRouter(prefix="/audit", tags=["access"], route_class=FairRoute)


@router.get("", operation_id="list_audit", summary="List the audit log", responses=problems())
def list_audit(services: ToAdminister, cursor: Cursor = None, limit: Limit = 20) -> Page[AuditEntry]:
    """Every change made with a key of the tenant, and calls that were denied because a scope was missing. Newest first."""
    with services.database.read() as session:
        rows = audit.page(session, services.tenant, cursor, limit)
    return resources.page(rows, [resources.audit_entry(row) for row in rows.items])
