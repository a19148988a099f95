"""Messages that wait to be published, and the marks of maintenance."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Integer,
    String,
)
from sqlalchemy.orm import Mapped, mapped_column

from store.database.clock import now
from store.database.tables.base import TRACEPARENT_LENGTH, Base, Owned


class OutboxMessage(Owned, Base):
    """A message to publish, written in the transaction that makes it true and removed once it was published."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(default=now())
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH))
    """The span that the message is a part of (store/tracing)."""


class MaintenanceMark(Base):
    """What a task of maintenance remembers from one time to the next."""

    __tablename__ = "maintenance_marks"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    wait_until: Mapped[datetime | None]
