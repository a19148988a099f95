"""The list of workers."""

from fastapi import APIRouter

from api_schemas.api.resources import Page
from api_schemas.api.workers import WorkerResource
from service.access.turns import FairRoute
from service.core import workers
from service.dependencies import ToAdminister
from service.openapi.document import problems
from service.routes.parameters import Cursor, Limit

router = APIRouter(prefix="/workers", tags=["service"], route_class=FairRoute)


@router.get("", operation_id="list_workers", summary="List workers", responses=problems())
def list_workers(services: ToAdminister, cursor: Cursor = None, limit: Limit = 20) -> Page[WorkerResource]:
    """The processes that run jobs, and their devices, newest first. All tenants share them; a job is shown only to its
    own tenant."""
    return workers.page(services, cursor, limit)
