"""`/webhooks` and `/webhooks/{id}`: where events are sent, whether that works, and what was delivered.

The page makes changes through the API: a secret is in the response to such a call and on no page rendered here.
"""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from api_schemas.api.webhooks import DeliveryResource, WebhookEvent
from api_schemas.enums import KeyScope
from api_schemas.errors import ErrorCode, SecateurError
from service.access.turns import FairRoute
from service.dependencies import ToReadJobs
from service.page.rendering import answer, part_wanted
from service.routes import webhooks
from service.routes.parameters import Cursor, WebhookPath
from service.services import Services

PAGE = 20
NEWEST = 3
"""Deliveries of each webhook in the list."""

router = APIRouter(route_class=FairRoute)


@router.get("/webhooks", include_in_schema=False)
def webhooks_page(services: ToReadJobs, request: Request, cursor: Cursor = None) -> Response:
    """The whole page, or its table alone. Newest first."""
    page = webhooks.list_webhooks(services, cursor, PAGE)
    return answer(
        request,
        "admin/webhook_table.html.j2" if part_wanted(request) == "webhooks" else "admin/webhooks.html.j2",
        found=[(webhook, _newest(services, webhook.id)) for webhook in page.items],
        events=tuple(WebhookEvent),
        may_change=_may_change(services),
        older=page.next_cursor,
        newest=cursor is not None,
    )


@router.get("/webhooks/{webhook_id}", include_in_schema=False)
def webhook_page(services: ToReadJobs, request: Request, webhook_id: WebhookPath, cursor: Cursor = None) -> Response:
    """One, with its deliveries: the whole page, or what changes on it. Raises NOT_FOUND."""
    page = webhooks.list_webhook_deliveries(services, webhook_id, cursor, PAGE)
    return answer(
        request,
        "admin/deliveries.html.j2" if part_wanted(request) == "webhook" else "admin/webhook.html.j2",
        webhook=webhooks.get_webhook(services, webhook_id),
        deliveries=page.items,
        events=tuple(WebhookEvent),
        may_change=_may_change(services),
        older=page.next_cursor,
        newest=cursor is not None,
    )


def _newest(services: Services, webhook_id: str) -> Sequence[DeliveryResource]:
    try:
        return webhooks.list_webhook_deliveries(services, webhook_id, None, NEWEST).items
    except SecateurError as error:
        # Deleted since the list was read.
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        return ()


def _may_change(services: Services) -> bool:
    """As the calls that change webhooks ask."""
    return KeyScope.JOBS_WRITE in services.caller.scopes
