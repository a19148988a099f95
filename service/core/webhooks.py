"""The rules of webhooks: an address is checked before it is stored, a secret is shown once."""

from api_schemas.api.resources import Page
from api_schemas.api.webhooks import (
    DeliveryResource,
    DeliveryState,
    WebhookRequest,
    WebhookResource,
    WebhookSecret,
    WebhookUpdate,
)
from api_schemas.enums import AuditAction
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.core import resources
from service.services import Services
from store.database.tables import Webhook, WebhookDelivery
from store.outbound.client import OutboundClient
from store.outbound.url_rules import UrlRules
from store.webhooks import deliveries, enqueue, webhooks


def create(services: Services, request: WebhookRequest) -> WebhookSecret:
    """Raises TARGET_REFUSED, or CONFLICT where there are too many."""
    _check_url(services, request.url)
    with services.database.write() as session:
        most = services.settings.max_webhooks
        row = webhooks.create(session, services.tenant, request.url, request.events, most)
        services.note(session, AuditAction.CREATE_WEBHOOK, row.id)
        return _with_secret(row)


def page(services: Services, cursor: str | None, limit: int) -> Page[WebhookResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = webhooks.page(session, services.tenant, cursor, limit)
        return resources.page(rows, [_webhook(row) for row in rows.items])


def get(services: Services, webhook_id: str) -> WebhookResource:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        return _webhook(webhooks.get(session, services.tenant, webhook_id))


def change(services: Services, webhook_id: str, update: WebhookUpdate) -> WebhookResource:
    """Raises NOT_FOUND or TARGET_REFUSED."""
    if update.url is not None:
        _check_url(services, update.url)
    with services.database.write() as session:
        row = webhooks.change(session, services.tenant, webhook_id, update.url, update.events, update.enabled)
        services.note(session, AuditAction.UPDATE_WEBHOOK, webhook_id)
        return _webhook(row)


def remove(services: Services, webhook_id: str) -> None:
    """Raises NOT_FOUND."""
    with services.database.write() as session:
        webhooks.remove(session, services.tenant, webhook_id)
        services.note(session, AuditAction.DELETE_WEBHOOK, webhook_id)


def rotate(services: Services, webhook_id: str) -> WebhookSecret:
    """Raises NOT_FOUND."""
    overlap = services.settings.webhook_rotation_seconds
    with services.database.write() as session:
        row = webhooks.rotate(session, services.tenant, webhook_id, overlap)
        services.note(session, AuditAction.ROTATE_WEBHOOK_SECRET, webhook_id)
        return _with_secret(row)


def ping(services: Services, webhook_id: str) -> DeliveryResource:
    """Raises NOT_FOUND, or CONFLICT where it is disabled."""
    with services.database.write() as session:
        row = _enabled(webhooks.get(session, services.tenant, webhook_id))
        delivery = enqueue.ping(session, row)
        session.refresh(delivery)
        services.note(session, AuditAction.PING_WEBHOOK, webhook_id)
        return _delivery(delivery)


def page_of_deliveries(
    services: Services, webhook_id: str, cursor: str | None, limit: int, state: DeliveryState | None
) -> Page[DeliveryResource]:
    """Newest first. Raises NOT_FOUND."""
    with services.database.read() as session:
        webhooks.get(session, services.tenant, webhook_id)
        rows = deliveries.page(session, services.tenant, webhook_id, cursor, limit, state)
        return resources.page(rows, [_delivery(row) for row in rows.items])


def redeliver(services: Services, webhook_id: str, delivery_id: str) -> DeliveryResource:
    """Raises NOT_FOUND, or CONFLICT where the webhook is disabled or the delivery is still under way."""
    with services.database.write() as session:
        _enabled(webhooks.get(session, services.tenant, webhook_id))
        earlier = deliveries.get(session, services.tenant, webhook_id, delivery_id)
        if earlier.state is DeliveryState.PENDING:
            raise SecateurError(ErrorCode.CONFLICT, f"{delivery_id} is still being retried; see `next_attempt_at`.")
        delivery = enqueue.redelivery(session, earlier)
        session.refresh(delivery)
        services.note(session, AuditAction.REDELIVER_WEBHOOK_DELIVERY, delivery.id)
        return _delivery(delivery)


def _check_url(services: Services, url: str) -> None:
    try:
        OutboundClient(UrlRules.of(services.settings)).check(url)
    except SecateurError as error:
        item = ErrorItem(pointer="/url", code=error.code, detail=error.detail)
        raise SecateurError(error.code, error.detail, (item,)) from None


def _enabled(row: Webhook) -> Webhook:
    if not row.enabled:
        detail = 'The webhook is disabled. Enable it first with PATCH {"enabled": true}.'
        raise SecateurError(ErrorCode.CONFLICT, detail)
    return row


def _webhook(row: Webhook) -> WebhookResource:
    return WebhookResource.model_validate(_fields(row))


def _with_secret(row: Webhook) -> WebhookSecret:
    return WebhookSecret.model_validate(_fields(row) | {"secret": row.secret})


def _fields(row: Webhook) -> dict[str, object]:
    return {name: getattr(row, name) for name in WebhookResource.model_fields}


def _delivery(row: WebhookDelivery) -> DeliveryResource:
    return DeliveryResource(
        id=row.id,
        message_id=row.message_id,
        type=row.type,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.due_at if row.state is DeliveryState.PENDING else None,
        delivered_at=row.delivered_at,
        last_status=row.last_status,
        last_error=row.last_error,
        last_latency_seconds=row.last_latency,
        body=row.body,
    )
