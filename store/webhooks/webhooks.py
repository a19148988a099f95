"""Webhooks as their owners manage them: create, change, rotate the secret, delete."""

import base64
import secrets
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.webhooks import DeliveryState, WebhookEvent
from api_schemas.errors import ErrorCode, SecateurError
from store.database.clock import now
from store.database.paging import Rows, fetch_page
from store.database.tables import Webhook, WebhookDelivery
from store.database.tenancy import owned_by, select_owned

SECRET_BYTES = 32
BY_OWNER = "the webhook was disabled before this was delivered; enable the webhook and redeliver it"


def new_secret() -> str:
    """`whsec_…`, as Standard Webhooks writes a symmetric key."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def create(session: Session, tenant: str, url: str, events: Sequence[WebhookEvent], most: int) -> Webhook:
    """Raises CONFLICT where the tenant has `most` already."""
    count = session.scalar(select(func.count()).select_from(Webhook).where(owned_by(Webhook, tenant))) or 0
    if count >= most:
        raise SecateurError(ErrorCode.CONFLICT, f"There are already {count} webhooks, which is the limit; delete one.")
    webhook = Webhook(
        id=ids.new_id(ids.WEBHOOK),
        tenant=tenant,
        url=url,
        events=[event.value for event in events],
        secret=new_secret(),
    )
    session.add(webhook)
    session.flush()
    session.refresh(webhook)
    return webhook


def get(session: Session, tenant: str, webhook_id: str) -> Webhook:
    """Raises NOT_FOUND."""
    found = session.scalar(select_owned(Webhook, tenant).where(Webhook.id == webhook_id))
    if found is None:
        raise _absent(webhook_id)
    return found


def page(session: Session, tenant: str, cursor: str | None, limit: int) -> Rows[Webhook]:
    """Newest first."""
    return fetch_page(session, Webhook, select_owned(Webhook, tenant), cursor, limit)


def change(
    session: Session,
    tenant: str,
    webhook_id: str,
    url: str | None,
    events: Sequence[WebhookEvent] | None,
    enabled: bool | None,
) -> Webhook:
    """Set what is not None. Disabling fails what still waits. Raises NOT_FOUND."""
    values: dict[str, Any] = {}
    if url is not None:
        values["url"] = url
    if events is not None:
        values["events"] = [event.value for event in events]
    if enabled is not None:
        values |= {"enabled": enabled, "disabled_reason": None, "failing_since": None}
    if values:
        _update(session, tenant, webhook_id, values)
    if enabled is False:
        fail_waiting(session, webhook_id, BY_OWNER)
    return get(session, tenant, webhook_id)


def rotate(session: Session, tenant: str, webhook_id: str, overlap_seconds: float) -> Webhook:
    """A new secret; the one before signs beside it for `overlap_seconds` more. Raises NOT_FOUND."""
    values = {
        "previous_secret": Webhook.secret,
        "previous_secret_until": now(plus=overlap_seconds),
        "secret": new_secret(),
    }
    _update(session, tenant, webhook_id, values)
    return get(session, tenant, webhook_id)


def remove(session: Session, tenant: str, webhook_id: str) -> None:
    """With its deliveries. Raises NOT_FOUND."""
    statement = delete(Webhook).where(owned_by(Webhook, tenant), Webhook.id == webhook_id)
    if cast("CursorResult[Any]", session.execute(statement)).rowcount == 0:
        raise _absent(webhook_id)


def fail_waiting(session: Session, webhook_id: str, reason: str) -> None:
    """Nothing that waits for this webhook is sent any more."""
    waiting = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state == DeliveryState.PENDING)
    session.execute(update(WebhookDelivery).where(*waiting).values(state=DeliveryState.FAILED, last_error=reason))


def _update(session: Session, tenant: str, webhook_id: str, values: dict[str, Any]) -> None:
    statement = update(Webhook).where(owned_by(Webhook, tenant), Webhook.id == webhook_id).values(values)
    options = {"synchronize_session": False}
    result = cast("CursorResult[Any]", session.execute(statement, execution_options=options))
    if result.rowcount == 0:
        raise _absent(webhook_id)
    session.expire_all()


def _absent(webhook_id: str) -> SecateurError:
    return SecateurError(ErrorCode.NOT_FOUND, f"There is no webhook {webhook_id}.")
