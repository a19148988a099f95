"""Webhooks: create, test, list deliveries."""

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
    summary="Create a webhook",
    status_code=201,
    response_description="The webhook with its secret, which is not shown again.",
    responses={
        201: {"headers": LOCATION},
        **problems(ErrorCode.TARGET_REFUSED, ErrorCode.CONFLICT, ErrorCode.REQUEST_TOO_LARGE),
    },
)
def create_webhook(services: ToWriteJobs, request: WebhookRequest, response: Response) -> WebhookSecret:
    """Job events are sent to `url`, signed according to Standard Webhooks (standardwebhooks.com).

    A response from 200 to 299 within the time limit means success; otherwise the delivery is retried, at growing intervals, for
    days. Deliveries can arrive twice and in any order: `webhook-id` identifies the event.
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
    summary="Get a webhook",
    responses=problems(ErrorCode.NOT_FOUND),
)
def get_webhook(services: ToReadJobs, webhook_id: WebhookPath) -> WebhookResource:
    """Whether it works: `failing_since`, and `disabled_reason` if the server disabled it."""
    return webhooks.get(services, webhook_id)


@router.patch(
    "/{webhook_id}",
    operation_id="update_webhook",
    summary="Update a webhook",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.TARGET_REFUSED, ErrorCode.REQUEST_TOO_LARGE),
)
def update_webhook(services: ToWriteJobs, webhook_id: WebhookPath, request: WebhookUpdate) -> WebhookResource:
    """Changes its URL, its events, or whether it is enabled. Pending deliveries go to the new URL."""
    return webhooks.change(services, webhook_id, request)


@router.delete(
    "/{webhook_id}",
    operation_id="delete_webhook",
    summary="Delete a webhook",
    status_code=204,
    responses=problems(ErrorCode.NOT_FOUND),
)
def delete_webhook(services: ToWriteJobs, webhook_id: WebhookPath) -> None:
    """Also deletes its log. Pending deliveries are not sent."""
    webhooks.remove(services, webhook_id)


@router.post(
    "/{webhook_id}/ping",
    operation_id="ping_webhook",
    summary="Send a test event",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def ping_webhook(services: ToWriteJobs, webhook_id: WebhookPath) -> DeliveryResource:
    """Sends a `webhook.ping`, delivered like any other event; the delivery log shows the outcome."""
    return webhooks.ping(services, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    operation_id="rotate_webhook_secret",
    summary="Rotate the secret",
    response_description="The webhook with its new secret, which is not shown again.",
    responses=problems(ErrorCode.NOT_FOUND),
)
def rotate_webhook_secret(services: ToWriteJobs, webhook_id: WebhookPath, response: Response) -> WebhookSecret:
    """Until `previous_secret_until`, deliveries carry two signatures, by the new and by the previous secret."""
    response.headers["Cache-Control"] = "no-store"
    return webhooks.rotate(services, webhook_id)


@router.get(
    "/{webhook_id}/deliveries",
    operation_id="list_webhook_deliveries",
    summary="List deliveries",
    responses=problems(ErrorCode.NOT_FOUND),
)
def list_webhook_deliveries(
    services: ToReadJobs,
    webhook_id: WebhookPath,
    cursor: Cursor = None,
    limit: Limit = 20,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
) -> Page[DeliveryResource]:
    """Newest first: the number of attempts, the outcome of the last one, and when the next one is due."""
    return webhooks.page_of_deliveries(services, webhook_id, cursor, limit, state)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    operation_id="redeliver_webhook_delivery",
    summary="Redeliver an event",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def redeliver_webhook_delivery(
    services: ToWriteJobs, webhook_id: WebhookPath, delivery_id: DeliveryPath
) -> DeliveryResource:
    """Sends the same message as a new delivery, whether or not the first one arrived. 409 while the first is still being
    retried."""
    return webhooks.redeliver(services, webhook_id, delivery_id)


def describe_calls(app: FastAPI) -> None:
    """Put what receivers get into the document's `webhooks`."""
    app.webhooks.add_api_route(
        "news",
        _news,
        methods=["POST"],
        operation_id="receive_news",
        summary="Event sent to a webhook",
        status_code=204,
        response_description="Accepted. Any status from 200 to 299 means success.",
        responses={
            "default": {"description": "Not accepted: the delivery is retried. After 410 the webhook is disabled."}
        },
        tags=["webhooks"],
    )


def _news(
    message: WebhookMessage,
    webhook_id: Annotated[str, Header(description="The same for all attempts of an event.")],
    webhook_timestamp: Annotated[int, Header(description="Unix time of this attempt.")],
    webhook_signature: Annotated[str, Header(description="`v1,` and an HMAC in base64; two during a secret rotation.")],
) -> None:
    """Verify it with a Standard Webhooks library and the webhook's secret before trusting it."""
