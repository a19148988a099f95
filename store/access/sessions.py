"""Browser sessions: a random token identifies a user who signed in with a key, until the key or the session expires.

Only the browser has the token; the database has its hash (docs/adr/0018-sessions.md).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, SecateurError
from store.access import api_keys
from store.database import batches
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import ApiKey, BrowserSession

TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def begin(session: Session, key: ApiKey, seconds: float) -> str:
    """The token of a new session with what `key` allows."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    session.add(BrowserSession(sha256=_hash(token), tenant=key.tenant, key_id=key.id, expires_at=now(plus=seconds)))
    return token


def authenticate(database: Database, token: str) -> ApiKey:
    """The key that the session was begun with. Raises UNAUTHENTICATED where either has ended."""
    found = None
    if _TOKEN.fullmatch(token):
        with database.read() as session:
            living = select(BrowserSession.key_id).where(BrowserSession.expires_at > now())
            found = session.scalar(living.where(BrowserSession.sha256 == _hash(token)))
    if found is None:
        raise SecateurError(ErrorCode.UNAUTHENTICATED, "The session has expired. Sign in again.")
    return api_keys.still_valid(database, found)


def living_of(session: Session, tokens: Collection[str]) -> frozenset[str]:
    """Those of `tokens` whose session has not ended; whether their keys have is asked of those."""
    by_hash = {_hash(token): token for token in tokens}
    living = select(BrowserSession.sha256).where(BrowserSession.expires_at > now())
    return frozenset(by_hash[found] for found in session.scalars(living.where(BrowserSession.sha256.in_(by_hash))))


def end(session: Session, token: str) -> None:
    """From here on the token opens nothing."""
    session.execute(delete(BrowserSession).where(BrowserSession.sha256 == _hash(token)))


def sweep(database: Database) -> int:
    """Forget sessions whose time is over; returns how many."""
    return batches.remove(database, BrowserSession, BrowserSession.expires_at, 0)


def csrf_of(token: str) -> str:
    """The CSRF token that changing requests of the session must carry. It does not reveal the session's token."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
