"""The work that waits for maintenance, over all tenants: how much, and since when."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, func, or_, select, true
from sqlalchemy.orm import Session

from api_schemas.api.webhooks import DeliveryState
from store.database import marks
from store.database.clock import moment, now
from store.database.tables import OutboxMessage, UploadCheck, Webhook, WebhookDelivery


@dataclass(frozen=True)
class Backlog:
    """`oldest_seconds` is 0 where nothing waits."""

    waiting: int
    oldest_seconds: float


@dataclass(frozen=True)
class Maintenance:
    """What maintenance has before it, and how it is."""

    outbox: Backlog
    """Messages that the broker has not taken."""
    deliveries: Backlog
    """Of webhooks: due, and not being sent."""
    checks: Backlog
    """Datasets whose check has not started."""
    checks_running: int
    silent_seconds: float
    """Since it last swept; infinite where it never did."""
    disk: tuple[int, int] | None
    """Bytes of the disk of its scratch folder, and how many are free."""


def read(session: Session) -> Maintenance:
    """On one snapshot."""
    free = or_(UploadCheck.lease_until.is_(None), UploadCheck.lease_until < now())
    enabled = select(Webhook.id).where(Webhook.enabled)
    due = and_(
        WebhookDelivery.state == DeliveryState.PENDING,
        WebhookDelivery.due_at <= now(),
        WebhookDelivery.webhook_id.in_(enabled),
    )
    left = marks.read(session)
    here = moment(session)
    swept = left.get(marks.SWEPT)
    return Maintenance(
        outbox=_backlog(session, here, OutboxMessage.created_at, true()),
        deliveries=_backlog(session, here, WebhookDelivery.due_at, due),
        checks=_backlog(session, here, UploadCheck.waits_since, free),
        checks_running=session.scalar(select(func.count()).select_from(UploadCheck).where(~free)) or 0,
        silent_seconds=float("inf") if swept is None else max(0.0, here.timestamp() - swept),
        disk=(left[marks.DISK], left[marks.DISK_FREE]) if marks.DISK in left and marks.DISK_FREE in left else None,
    )


def _backlog(
    session: Session, here: datetime, since: SQLColumnExpression[datetime], waits: ColumnElement[bool]
) -> Backlog:
    count, oldest = session.execute(select(func.count(), func.min(since)).where(waits)).one()
    return Backlog(count, max(0.0, (here - oldest).total_seconds()) if oldest else 0.0)
