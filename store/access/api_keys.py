"""API keys: shown once, found by their id, compared by the hash of their secret (docs/adr/0010-keys.md)."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.enums import KeyScope
from api_schemas.errors import ErrorCode, SecateurError
from store.database.clock import now
from store.database.connection import Database
from store.database.locks import one_at_a_time
from store.database.paging import Rows, fetch_page
from store.database.tables import ApiKey
from store.database.tenancy import owned_by, select_owned

SECRET_BYTES = 32
USED_SECONDS = 60
"""How exactly `last_used_at` is kept: a write for every request would cost more than the request."""
_TOKEN = re.compile(r"sk_([a-z2-7]{26})_([a-z2-7]{52})")


def create(
    session: Session, tenant: str, name: str | None, scopes: Sequence[KeyScope], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A key and its token, which nothing can give again. Raises INVALID_REQUEST where it would have expired already."""
    if expires_at is not None and expires_at <= session.execute(now().select()).scalar_one():
        raise SecateurError(
            ErrorCode.INVALID_REQUEST, "`expires_at` is in the past. Use a time in the future, or leave it out."
        )
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("=").lower()
    key = ApiKey(
        id=ids.new_id(ids.KEY),
        tenant=tenant,
        name=name,
        sha256=_hash(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, f"{prefix(key.id)}_{secret}"


def bootstrap(session: Session, tenant: str, name: str | None) -> tuple[ApiKey, str]:
    """The first key of a database, with every scope. Raises CONFLICT where there has been one."""
    one_at_a_time(session, "first key")
    if session.scalar(select(ApiKey.id).limit(1)) is not None:
        detail = "This database already has keys. Create another with one of them, or without `--bootstrap`."
        raise SecateurError(ErrorCode.CONFLICT, detail)
    return create(session, tenant, name, tuple(KeyScope))


def authenticate(database: Database, token: str) -> ApiKey:
    """The key of a token. Raises UNAUTHENTICATED; only who knows the secret is told that it was revoked or has expired."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise _unknown()
    return _opened(database, f"{ids.KEY}_{match[1]}", _hash(match[2]))


def still_valid(database: Database, key_id: str) -> ApiKey:
    """The key of somebody who has shown before that it is theirs. Raises UNAUTHENTICATED."""
    return _opened(database, key_id, None)


def still_valid_of(session: Session, key_ids: Collection[str]) -> frozenset[str]:
    """Those of `key_ids` that still open something; for keys that were shown before."""
    valid = select(ApiKey.id).where(
        ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now())
    )
    return frozenset(session.scalars(valid.where(ApiKey.id.in_(key_ids))))


def _opened(database: Database, key_id: str, sha256: str | None) -> ApiKey:
    """`sha256`: of the secret that was given, where one has to be."""
    query = select(ApiKey, ApiKey.expires_at <= now(), ApiKey.last_used_at > now(plus=-USED_SECONDS))
    with database.read() as session:
        found = session.execute(query.where(ApiKey.id == key_id)).one_or_none()
    if found is None or (sha256 is not None and not hmac.compare_digest(found[0].sha256, sha256)):
        raise _unknown()
    key, expired, used_lately = found
    if key.revoked_at is not None or expired:
        why = "was revoked" if key.revoked_at is not None else "has expired"
        raise SecateurError(ErrorCode.UNAUTHENTICATED, f"Key {key.id} {why}. Ask an administrator for a new one.")
    if not used_lately:
        _note_use(database, key.id)
    return key


def get(session: Session, tenant: str, key_id: str) -> ApiKey:
    """Raises NOT_FOUND."""
    key = session.scalar(select_owned(ApiKey, tenant).where(ApiKey.id == key_id))
    if key is None:
        raise SecateurError(ErrorCode.NOT_FOUND, f"There is no key {key_id}.")
    return key


def page(session: Session, tenant: str, cursor: str | None, limit: int) -> Rows[ApiKey]:
    """Newest first, revoked and expired ones included."""
    return fetch_page(session, ApiKey, select_owned(ApiKey, tenant), cursor, limit)


def revoke(session: Session, tenant: str, key_id: str) -> bool:
    """From here on the key opens nothing. False where it did not before. Raises NOT_FOUND."""
    mine = update(ApiKey).where(owned_by(ApiKey, tenant), ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    changed = cast("CursorResult[Any]", session.execute(mine.values(revoked_at=now()))).rowcount > 0
    session.expire_all()
    get(session, tenant, key_id)
    return changed


def prefix(key_id: str) -> str:
    """How a key's token begins; no secret."""
    return f"sk_{key_id.removeprefix(f'{ids.KEY}_')}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _note_use(database: Database, key_id: str) -> None:
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now(plus=-USED_SECONDS))
    with database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now()))


def _unknown() -> SecateurError:
    return SecateurError(ErrorCode.UNAUTHENTICATED, "That API key isn't valid here. Keys look like `sk_…_…`.")
