"""Removes expired rows in batches, so that no transaction is long, however many rows there are, and the total time is bounded."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, delete, inspect, select, tuple_
from sqlalchemy.orm import Session

from store.database.clock import moment
from store.database.connection import Database
from store.database.tables import Base

ROWS = 500
SECONDS = 60.0
"""After so long the rest is left to the next time."""
Position = tuple[Any, ...]
Batch = Callable[[Session, Position | None], tuple[int, Position | None]]
"""Handles some rows beyond a position, each batch in a transaction of its own: how many it were, and up to which it looked; None
at the end."""


def each(database: Database, batch: Batch) -> int:
    """Batch after batch, each beyond the one before whatever became of that; returns how many rows were handled."""
    handled, position, until = 0, None, time.monotonic() + SECONDS
    while True:
        with database.write() as session:
            count, position = batch(session, position)
        handled += count
        if position is None or time.monotonic() > until:
            return handled


def remove(database: Database, table: type[Base], since: Any, seconds: float, *also: ColumnElement[bool]) -> int:
    """The rows of `table` whose moment `since` lies more than `seconds` back; returns how many. An index must begin with it."""
    key = inspect(table).primary_key

    def some(session: Session, _: Position | None) -> tuple[int, Position | None]:
        over = since < moment(session, -seconds)
        keys = [tuple(row) for row in session.execute(select(*key).where(over, *also).limit(ROWS))]
        if keys:
            gone = delete(table).where(tuple_(*key).in_(keys))
            session.execute(gone.execution_options(synchronize_session=False))
        return len(keys), () if len(keys) == ROWS else None

    return each(database, some)
