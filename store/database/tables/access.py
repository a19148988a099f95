"""API keys, browser sessions, the audit log, and idempotent requests."""

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from api_schemas.enums import AuditOutcome, KeyScope
from store.database.clock import now
from store.database.tables.base import ID_LENGTH, NAME_LENGTH, Base, Owned


class ApiKey(Owned, Base):
    """What a caller is known by; of its secret only the hash is here (docs/adr/0010-keys.md)."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "tenant", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[KeyScope]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""


class BrowserSession(Owned, Base):
    """Somebody who signed in with a key; of the session's token only the hash is here."""

    __tablename__ = "browser_sessions"
    __table_args__ = (Index(None, "expires_at"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime]


class StoredBytes(Owned, Base):
    """What a tenant's files come to: counted as they come and go, since adding them up takes longer the more there are."""

    __tablename__ = "stored_bytes"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)


class AuditRow(Owned, Base):
    """Who changed what. Written in the transaction of the change, where there was one."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "tenant", "created_at"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    """None where the service runs without keys, and for the operator's own commands."""
    action: Mapped[str] = mapped_column(String(32))
    object_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    outcome: Mapped[AuditOutcome]
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now())


class IdempotencyKey(Owned, Base):
    """A request that is answered once, and its answer when there is one (store/access/idempotency.py)."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (PrimaryKeyConstraint("tenant", "key"), Index(None, "expires_at"))

    key: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request."""
    token: Mapped[str] = mapped_column(String(32))
    """Of the one attempt that may write the answer."""
    held_until: Mapped[datetime]
    """Until when that attempt is waited for."""
    expires_at: Mapped[datetime]
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    body: Mapped[str | None] = mapped_column(Text)
