"""Webhooks and their deliveries."""

from datetime import datetime

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api_schemas.api.webhooks import DeliveryState
from store.database.clock import now
from store.database.tables.base import ID_LENGTH, NAME_LENGTH, Base, Owned


class Webhook(Owned, Base):
    """Whom to tell, and of what. `secret` signs, so it is kept as it is."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "tenant", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JSON)
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None]
    tried_at: Mapped[datetime | None]
    """When a try last began: who waited longest has its turn next."""
    timeouts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Tries without an answer in time, since the last that ended otherwise."""
    timed_out_at: Mapped[datetime | None]
    """When the newest of them ended."""
    secret: Mapped[str] = mapped_column(String(NAME_LENGTH))
    previous_secret: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    previous_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now())


class WebhookDelivery(Owned, Base):
    """An event on its way to a webhook, with what came of the last try."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "webhook_id", "state", "due_at"),
        Index(None, "sending_until"),
        Index(None, "webhook_id", "created_at", "id"),
        Index(None, "webhook_id", "state", "created_at", "id"),
        Index(None, "state", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    type: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Rises with every try that begins; what is written of a try names its number."""
    due_at: Mapped[datetime] = mapped_column(default=now())
    """Of a pending one: not before this moment. A try that begins moves it on by its lease."""
    sending_until: Mapped[datetime | None]
    """Set while a try is under way: to the end of its lease, which counts where its process has died."""
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(Text)
    last_latency: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now())
