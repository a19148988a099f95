"""Serializes transactions that count rows before they add one: without this, two at once would both find room."""

import hashlib

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def one_at_a_time(session: Session, what: str) -> None:
    """Nobody else passes here with the same `what` before this transaction ends.

    PostgreSQL: an advisory lock. SQLite: nothing, since a writing session is alone from its start.
    """
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))
