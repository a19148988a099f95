"""Deliveries: claimed under a lease so that no two processes send one at once, and what came of each try.

A try that begins raises `attempts` and moves `due_at` on by the lease; what it writes afterwards names its number. A process
that dies in between leaves a delivery that is simply due again.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from api_schemas.api.webhooks import DeliveryState
from api_schemas.errors import ErrorCode, SecateurError
from store.database.clock import now
from store.database.paging import Rows, fetch_page
from store.database.tables import Webhook, WebhookDelivery
from store.database.tenancy import select_owned
from store.settings import Settings
from store.webhooks import webhooks

GONE = 410
LOG_BATCH = 1000


@dataclass(frozen=True)
class Claimed:
    """A try that has begun: what to send, where to, signed with which secrets (the newest first)."""

    id: str
    attempt: int
    webhook_id: str
    message_id: str
    body: str
    url: str
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a try. `error` is None where the receiver took it."""

    status: int | None
    error: str | None
    latency_seconds: float


def claim(session: Session, lease_seconds: float) -> Claimed | None:
    """The delivery that has been due for longest, or None. Nobody else gets it for `lease_seconds`."""
    due = and_(WebhookDelivery.state == DeliveryState.PENDING, WebhookDelivery.due_at <= now())
    first = (
        select(WebhookDelivery.id)
        .where(due)
        .order_by(WebhookDelivery.due_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=WebhookDelivery)
        .scalar_subquery()
    )
    values = {"attempts": WebhookDelivery.attempts + 1, "due_at": now(plus=lease_seconds)}
    statement = update(WebhookDelivery).where(WebhookDelivery.id == first, due).values(values)
    options = {"synchronize_session": False, "populate_existing": True}
    delivery = session.scalars(statement.returning(WebhookDelivery), execution_options=options).one_or_none()
    if delivery is None:
        return None
    webhook = session.get_one(Webhook, delivery.webhook_id)
    still = Webhook.previous_secret_until > now()
    previous = session.scalar(select(Webhook.previous_secret).where(Webhook.id == webhook.id, still))
    return Claimed(
        id=delivery.id,
        attempt=delivery.attempts,
        webhook_id=webhook.id,
        message_id=delivery.message_id,
        body=delivery.body,
        url=webhook.url,
        secrets=(webhook.secret, *([previous] if previous else [])),
    )


def record(session: Session, claimed: Claimed, outcome: Outcome, settings: Settings, jitter: float) -> None:
    """Write down what came of the try, and when the next one is due. A try that lost its lease writes nothing.

    `jitter` in [0, 1] spreads the waits, so that what failed together is not tried together.
    """
    # The webhook before its deliveries, as everybody does who changes both: two that end at once must not wait for each other.
    session.execute(select(Webhook.id).where(Webhook.id == claimed.webhook_id).with_for_update(key_share=True))
    values: dict[str, Any] = {"last_status": outcome.status, "last_error": outcome.error}
    values["last_latency"] = outcome.latency_seconds
    if outcome.error is None:
        values |= {"state": DeliveryState.DELIVERED, "delivered_at": now()}
    else:
        wait = settings.webhook_retry_seconds * 4.0 ** min(claimed.attempt - 1, 16)
        wait = min(wait, settings.webhook_longest_wait_seconds) * (0.8 + 0.4 * jitter)
        too_old = WebhookDelivery.created_at < now(plus=-settings.webhook_give_up_seconds)
        values |= {"state": _given_up_if(too_old), "due_at": now(plus=wait)}
    mine = and_(
        WebhookDelivery.id == claimed.id,
        WebhookDelivery.attempts == claimed.attempt,
        WebhookDelivery.state == DeliveryState.PENDING,
    )
    statement = update(WebhookDelivery).where(mine).values(values).returning(WebhookDelivery.id)
    if session.execute(statement.execution_options(synchronize_session=False)).scalar_one_or_none() is None:
        return
    if outcome.error is None:
        session.execute(update(Webhook).where(Webhook.id == claimed.webhook_id).values(failing_since=None))
    else:
        _failing(session, claimed.webhook_id, outcome, settings.webhook_disable_seconds)


def get(session: Session, tenant: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Raises NOT_FOUND."""
    query = select_owned(WebhookDelivery, tenant)
    found = session.scalar(query.where(WebhookDelivery.id == delivery_id, WebhookDelivery.webhook_id == webhook_id))
    if found is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"The webhook {webhook_id} has no delivery {delivery_id}.")
    return found


def page(
    session: Session, tenant: str, webhook_id: str, cursor: str | None, limit: int, state: DeliveryState | None
) -> Rows[WebhookDelivery]:
    """Newest first."""
    query = select_owned(WebhookDelivery, tenant).where(WebhookDelivery.webhook_id == webhook_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    return fetch_page(session, WebhookDelivery, query, cursor, limit)


def expire(session: Session, log_seconds: float) -> int:
    """Forget what was delivered or given up and is older than `log_seconds`; returns how many."""
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.state != DeliveryState.PENDING, WebhookDelivery.created_at < now(plus=-log_seconds))
        .limit(LOG_BATCH)
    )
    gone = session.scalars(old).all()
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(gone)))
    return len(gone)


def _given_up_if(condition: ColumnElement[bool]) -> ColumnElement[DeliveryState]:
    failed, pending = DeliveryState.FAILED, DeliveryState.PENDING
    column = WebhookDelivery.state.type
    return case((condition, literal(failed, column)), else_=literal(pending, column))


def _failing(session: Session, webhook_id: str, outcome: Outcome, disable_seconds: float) -> None:
    """Note that it fails; disable it where it said 410, or has failed for too long."""
    mine = Webhook.id == webhook_id
    session.execute(update(Webhook).where(mine).values(failing_since=func.coalesce(Webhook.failing_since, now())))
    gone = outcome.status == GONE
    reason = (
        "it answered 410 Gone" if gone else f"it had failed for {disable_seconds / 86400:.3g} days: {outcome.error}"
    )
    too_long = or_(Webhook.failing_since < now(plus=-disable_seconds), literal(gone))
    statement = update(Webhook).where(mine, Webhook.enabled, too_long).values(enabled=False, disabled_reason=reason)
    changed = session.execute(statement.returning(Webhook.id).execution_options(synchronize_session=False))
    if changed.scalar_one_or_none() is not None:
        webhooks.fail_waiting(session, webhook_id, f"the webhook was disabled: {reason}")
