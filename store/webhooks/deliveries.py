"""Deliveries: claimed in turns and under a lease, so that no two processes send the same one, and the outcome of each attempt.

Receivers are outside our control, and some respond slowly or never. So only a few attempts per address and per tenant run at
once, the tenant with the fewest of them comes next, and a receiver that times out gets less time
(docs/adr/0022-turns-of-webhooks.md).

An attempt that begins increments `attempts` and moves `due_at` on by the lease; what it writes afterwards names its number. If a
process dies in between, the delivery simply becomes due again.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, or_, select, update
from sqlalchemy.orm import Session, aliased

from api_schemas.api.webhooks import DeliveryState
from api_schemas.errors import ErrorCode, SecateurError
from store.database import batches
from store.database.clock import now
from store.database.connection import Database
from store.database.locks import one_at_a_time
from store.database.paging import Rows, fetch_page
from store.database.tables import Webhook, WebhookDelivery
from store.database.tenancy import select_owned
from store.settings import Settings
from store.webhooks import webhooks

GONE = 410
MOST_OF_AN_ADDRESS = 2
MOST_OF_A_TENANT = 8
"""Tries that are under way at once."""
LEASE_MARGIN = 30.0
"""Seconds that a try may take beyond its call."""
LEAST_SECONDS = 2.0
"""However often a receiver did not answer in time, it has as many."""
FORGIVEN_SECONDS = 3600.0
"""So long after a time-out a receiver has all its time again."""


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
    seconds: float
    """How long the call may take, all of it."""


@dataclass(frozen=True)
class Outcome:
    """What came of a try. `error` is None where the receiver took it; `timed_out` where no answer came for most of its time."""

    status: int | None
    error: str | None
    latency_seconds: float
    timed_out: bool = False


def claim(session: Session, timeout_seconds: float) -> Claimed | None:
    """The delivery whose turn it is, or None where nothing is due that may be sent now. Nobody else gets it meanwhile.

    `timeout_seconds`: of a receiver that answers; half as many for every time that one lately did not.
    """
    # Otherwise two that claim at once would each count without the other's try.
    one_at_a_time(session, "webhooks")
    webhook_id = session.scalar(_next_webhook())
    if webhook_id is None:
        return None
    # The webhook before its deliveries, as everybody does who changes both: two that end at once must not wait for each other.
    turn = update(Webhook).where(Webhook.id == webhook_id).values(tried_at=now()).returning(Webhook)
    options = {"synchronize_session": False, "populate_existing": True}
    webhook = session.scalars(turn, execution_options=options).one_or_none()
    if webhook is None:
        return None
    forgiven = Webhook.timed_out_at < now(plus=-FORGIVEN_SECONDS)
    still = Webhook.previous_secret_until > now()
    lately, previous = session.execute(
        select(case((forgiven, 0), else_=Webhook.timeouts), case((still, Webhook.previous_secret))).where(
            Webhook.id == webhook_id
        )
    ).one()
    seconds = max(min(LEAST_SECONDS, timeout_seconds), timeout_seconds / 2.0 ** min(lately, 16))
    first = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.webhook_id == webhook_id, _due())
        .order_by(WebhookDelivery.due_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=WebhookDelivery)
        .scalar_subquery()
    )
    lease = now(plus=seconds + LEASE_MARGIN)
    values = {"attempts": WebhookDelivery.attempts + 1, "due_at": lease, "sending_until": lease}
    statement = update(WebhookDelivery).where(WebhookDelivery.id == first, _due()).values(values)
    delivery = session.scalars(statement.returning(WebhookDelivery), execution_options=options).one_or_none()
    if delivery is None:
        return None
    return Claimed(
        id=delivery.id,
        attempt=delivery.attempts,
        webhook_id=webhook.id,
        message_id=delivery.message_id,
        body=delivery.body,
        url=webhook.url,
        secrets=(webhook.secret, *([previous] if previous else [])),
        seconds=seconds,
    )


def _due() -> ColumnElement[bool]:
    return and_(WebhookDelivery.state == DeliveryState.PENDING, WebhookDelivery.due_at <= now())


def _next_webhook() -> Select[str]:
    """Of those with something due and room for a try: first of the tenant that has the fewest under way, then of the tenant, and
    the webhook, that waited longest. A query of webhooks, not of deliveries: of those somebody may have very many waiting."""
    sibling = aliased(Webhook)
    # Of all tenants: no more than there are threads that send. An index finds them by `IS NOT NULL`: the clock is no constant.
    sending = (
        select(sibling.tenant, sibling.url)
        .join(WebhookDelivery, WebhookDelivery.webhook_id == sibling.id)
        .where(WebhookDelivery.sending_until.is_not(None), WebhookDelivery.sending_until > now())
        .cte("sending")
    )
    of_tenant = select(func.count()).select_from(sending).where(sending.c.tenant == Webhook.tenant)
    of_address = of_tenant.where(sending.c.url == Webhook.url)
    tried = select(func.max(sibling.tried_at)).where(sibling.tenant == Webhook.tenant)
    under_way, here, last = (each.correlate(Webhook).scalar_subquery() for each in (of_tenant, of_address, tried))
    waiting = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == Webhook.id, _due()).exists()
    return (
        select(Webhook.id)
        .where(waiting, under_way < MOST_OF_A_TENANT, here < MOST_OF_AN_ADDRESS)
        .order_by(under_way, last.asc().nulls_first(), Webhook.tried_at.asc().nulls_first(), Webhook.id)
        .limit(1)
    )


def record(session: Session, claimed: Claimed, outcome: Outcome, settings: Settings, jitter: float) -> None:
    """Write down what came of the try, and when the next one is due. A try that lost its lease writes nothing.

    `jitter` in [0, 1] spreads the waits, so that what failed together is not tried together.
    """
    # The webhook first, as in `claim`.
    session.execute(select(Webhook.id).where(Webhook.id == claimed.webhook_id).with_for_update(key_share=True))
    values: dict[str, Any] = {"last_status": outcome.status, "last_error": outcome.error, "sending_until": None}
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
    counted = {"timeouts": Webhook.timeouts + 1, "timed_out_at": now()} if outcome.timed_out else {"timeouts": 0}
    session.execute(update(Webhook).where(Webhook.id == claimed.webhook_id).values(counted))
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


def expire(database: Database, log_seconds: float) -> int:
    """Forget what was delivered or given up and is older than `log_seconds`; returns how many."""
    ended = WebhookDelivery.state.in_([DeliveryState.DELIVERED, DeliveryState.FAILED])
    return batches.remove(database, WebhookDelivery, WebhookDelivery.created_at, log_seconds, ended)


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
        "the receiver answered 410 Gone"
        if gone
        else f"deliveries failed for {disable_seconds / 86400:.3g} days: {outcome.error}"
    )
    too_long = or_(Webhook.failing_since < now(plus=-disable_seconds), literal(gone))
    statement = update(Webhook).where(mine, Webhook.enabled, too_long).values(enabled=False, disabled_reason=reason)
    changed = session.execute(statement.returning(Webhook.id).execution_options(synchronize_session=False))
    if changed.scalar_one_or_none() is not None:
        webhooks.fail_waiting(session, webhook_id, f"the webhook was disabled: {reason}")
