"""Idempotent requests: the key that a client gives a request, and the response that it got.

One attempt at a time reserves a key before the work. The response is stored in the transaction that creates what was requested,
so both exist or neither does. An attempt that fails releases its key. An attempt that dies loses it to the next one after
`HOLD_SECONDS`, and can no longer write, because a write must name the current token.
"""

import secrets
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, SecateurError
from store.database import batches
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import IdempotencyKey
from store.database.tenancy import owned_by, select_owned
from store.database.upsert import insert_into

HOLD_SECONDS = 60.0
"""Well above what a request takes that has a key."""


@dataclass(frozen=True)
class Answer:
    """What was sent."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Reservation:
    """The right to answer a key."""

    key: str
    token: str


def reserve(session: Session, tenant: str, key: str, fingerprint: str, keep_seconds: float) -> Reservation | Answer:
    """The answer there is, or the right to give it.

    Raises IDEMPOTENCY_MISMATCH (the key is another request's) or IDEMPOTENCY_IN_PROGRESS (somebody else has that right).
    """
    mine = (owned_by(IdempotencyKey, tenant), IdempotencyKey.key == key)
    session.execute(delete(IdempotencyKey).where(*mine, IdempotencyKey.expires_at < now()))
    token = secrets.token_hex(16)
    held = {"token": token, "held_until": now(plus=HOLD_SECONDS), "expires_at": now(plus=keep_seconds)}
    new = insert_into(session, IdempotencyKey).values(tenant=tenant, key=key, fingerprint=fingerprint, **held)
    if session.scalar(new.on_conflict_do_nothing().returning(IdempotencyKey.key)) is not None:
        return Reservation(key, token)
    row = session.scalars(select_owned(IdempotencyKey, tenant).where(*mine).with_for_update()).one_or_none()
    if row is None:
        raise in_progress()  # Given back between the two statements.
    if row.fingerprint != fingerprint:
        detail = "This Idempotency-Key was already used for a request with a different address or body. Use a new key."
        raise SecateurError(ErrorCode.IDEMPOTENCY_MISMATCH, detail)
    if row.status is not None:
        return Answer(row.status, row.headers or {}, row.body or "")
    lost = update(IdempotencyKey).where(*mine, IdempotencyKey.held_until < now())
    if _changed(session, lost.values(**held)):
        return Reservation(key, token)
    raise in_progress()


def keep(session: Session, tenant: str, reservation: Reservation, answer: Answer) -> None:
    """Answer the key, in the transaction that makes what was asked for. Raises IDEMPOTENCY_IN_PROGRESS where it was lost."""
    values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    if not _changed(session, update(IdempotencyKey).where(*_held(tenant, reservation)).values(values)):
        raise in_progress()


def give_back(session: Session, tenant: str, reservation: Reservation) -> None:
    """Nothing was made: the key is free again."""
    session.execute(delete(IdempotencyKey).where(*_held(tenant, reservation)))


def sweep(database: Database) -> int:
    """Forget keys whose time is over; returns how many."""
    return batches.remove(database, IdempotencyKey, IdempotencyKey.expires_at, 0)


def in_progress() -> SecateurError:
    detail = "The first request with this Idempotency-Key is still being processed. Try again in a moment."
    return SecateurError(ErrorCode.IDEMPOTENCY_IN_PROGRESS, detail, retry_after=1)


def _held(tenant: str, reservation: Reservation) -> tuple[Any, ...]:
    key, token = IdempotencyKey.key == reservation.key, IdempotencyKey.token == reservation.token
    return (owned_by(IdempotencyKey, tenant), key, token, IdempotencyKey.status.is_(None))


def _changed(session: Session, statement: Any) -> bool:
    result = cast("CursorResult[Any]", session.execute(statement.execution_options(synchronize_session=False)))
    return result.rowcount > 0
