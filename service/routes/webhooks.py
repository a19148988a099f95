"""Webhooks: set up, try, look at what was delivered."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Query, Response

from api_schemas.api.resources import Page
from api_schemas.api.webhooks import (
    DeliveryResource,
    DeliveryState,
    WebhookMessage,
    WebhookRequest,
    WebhookResource,
    WebhookSecret,
    WebhookUpdate,
)
from api_schemas.errors import ErrorCode
from service.core import webhooks
from service.dependencies import ToReadJobs, ToWriteJobs
from service.openapi.document import LOCATION, problems
from service.paths import V1
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import Cursor, DeliveryPath, Limit, WebhookPath

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=JsonRoute)


@router.post(
    "",
    operation_id="create_webhook",
    summary="Set up a webhook",
    status_code=201,
    response_description="With its secret, which is not shown again.",
    responses={
        201: {"headers": LOCATION},
        **problems(ErrorCode.TARGET_REFUSED, ErrorCode.CONFLICT, ErrorCode.REQUEST_TOO_LARGE),
    },
)
def create_webhook(services: ToWriteJobs, request: WebhookRequest, response: Response) -> WebhookSecret:
    """Events of jobs are sent to `url`, signed by the Standard Webhooks rules (standardwebhooks.com).

    Any answer from 200 to 299 within the time limit counts as taken; others are tried again, less and less often, for days.
    Deliveries may come twice and in any order: `webhook-id` tells which are the same.
    """
    webhook = webhooks.create(services, request)
    response.headers["Location"] = f"{V1}/webhooks/{webhook.id}"
    response.headers["Cache-Control"] = "no-store"
    return webhook


@router.get("", operation_id="list_webhooks", summary="List webhooks", responses=problems())
def list_webhooks(services: ToReadJobs, cursor: Cursor = None, limit: Limit = 20) -> Page[WebhookResource]:
    """Newest first."""
    return webhooks.page(services, cursor, limit)


@router.get(
    "/{webhook_id}",
    operation_id="get_webhook",
    summary="Look at a webhook",
    responses=problems(ErrorCode.NOT_FOUND),
)
def get_webhook(services: ToReadJobs, webhook_id: WebhookPath) -> WebhookResource:
    """Whether it works: `failing_since`, and `disabled_reason` where the server stopped calling it."""
    return webhooks.get(services, webhook_id)


@router.patch(
    "/{webhook_id}",
    operation_id="update_webhook",
    summary="Change a webhook",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.TARGET_REFUSED, ErrorCode.REQUEST_TOO_LARGE),
)
def update_webhook(services: ToWriteJobs, webhook_id: WebhookPath, request: WebhookUpdate) -> WebhookResource:
    """Its address, its events, or whether it is called at all. What waits goes to the new address."""
    return webhooks.change(services, webhook_id, request)


@router.delete(
    "/{webhook_id}",
    operation_id="delete_webhook",
    summary="Remove a webhook",
    status_code=204,
    responses=problems(ErrorCode.NOT_FOUND),
)
def delete_webhook(services: ToWriteJobs, webhook_id: WebhookPath) -> None:
    """With its log. What waits is not sent."""
    webhooks.remove(services, webhook_id)


@router.post(
    "/{webhook_id}/ping",
    operation_id="ping_webhook",
    summary="Send a test event",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def ping_webhook(services: ToWriteJobs, webhook_id: WebhookPath) -> DeliveryResource:
    """A `webhook.ping`, delivered like any event; the log of deliveries says what came of it."""
    return webhooks.ping(services, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    operation_id="rotate_webhook_secret",
    summary="Replace the secret",
    response_description="With the new secret, which is not shown again.",
    responses=problems(ErrorCode.NOT_FOUND),
)
def rotate_webhook_secret(services: ToWriteJobs, webhook_id: WebhookPath, response: Response) -> WebhookSecret:
    """Until `previous_secret_until` deliveries carry two signatures, of the new secret and of the one before."""
    response.headers["Cache-Control"] = "no-store"
    return webhooks.rotate(services, webhook_id)


@router.get(
    "/{webhook_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="What was delivered",
    responses=problems(ErrorCode.NOT_FOUND),
)
def list_webhook_deliveries(
    services: ToReadJobs,
    webhook_id: WebhookPath,
    cursor: Cursor = None,
    limit: Limit = 20,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
) -> Page[DeliveryResource]:
    """Newest first: how often each was tried, what came of the last try, and when the next one is due."""
    return webhooks.page_of_deliveries(services, webhook_id, cursor, limit, state)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    operation_id="redeliver_webhook_delivery",
    summary="Deliver again",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def redeliver_webhook_delivery(
    services: ToWriteJobs, webhook_id: WebhookPath, delivery_id: DeliveryPath
) -> DeliveryResource:
    """The same message under a new delivery, whether the first one arrived or not. 409 while it is still being tried."""
    return webhooks.redeliver(services, webhook_id, delivery_id)


def describe_calls(app: FastAPI) -> None:
    """Put what receivers get into the document's `webhooks`."""
    app.webhooks.add_api_route(
        "news",
        _news,
        methods=["POST"],
        operation_id="receive_news",
        summary="What a webhook is sent",
        status_code=204,
        response_description="Taken. Any status from 200 to 299 says so.",
        responses={"default": {"description": "Not taken: it is tried again. After 410 the webhook is disabled."}},
        tags=["webhooks"],
    )


def _news(
    message: WebhookMessage,
    webhook_id: Annotated[str, Header(description="The same for every try of one event.")],
    webhook_timestamp: Annotated[int, Header(description="Unix time of this try.")],
    webhook_signature: Annotated[
        str, Header(description="`v1,` and an HMAC in base64; two while a secret is rotated.")
    ],
) -> None:
    """Verify it with a library of Standard Webhooks and the webhook's secret before believing it."""
