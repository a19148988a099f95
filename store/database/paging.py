"""Pages of rows, newest first. A cursor names the last row of a page, so rows added meanwhile shift nothing."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Select, Tuple, literal, tuple_
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError


class Paged(Protocol):
    """A mapped class whose rows are ordered by age."""

    id: Any
    created_at: Any


T = TypeVar("T", bound=Paged)
Q = TypeVar("Q", bound=Select[Any])


@dataclass(frozen=True)
class Rows(Generic[T]):
    """One page; `next_cursor` is None on the last."""

    items: Sequence[T]
    next_cursor: str | None


def fetch_page(session: Session, table: type[T], query: Select[T], cursor: str | None, limit: int) -> Rows[T]:
    """At most `limit` rows of `query` after `cursor`. Raises INVALID_REQUEST for a cursor that is none of ours."""
    query = newest_first(query, (table.created_at, table.id), cursor, limit)
    return as_page(session.scalars(query).all(), limit)


def newest_first(query: Q, by: tuple[Any, Any], cursor: str | None, limit: int) -> Q:
    """The rows of a page, in order, and one more, which says whether there is another page. `by`: moment and identifier.

    Raises INVALID_REQUEST for a cursor that is none of ours.
    """
    if cursor is not None:
        # One comparison of the pair, which an index that has both begins at; two in an OR would be tried on row after row.
        query = query.where(tuple_(*by) < at(_decode(cursor), by))
    moment, row_id = by
    return query.order_by(moment.desc(), row_id.desc()).limit(limit + 1)


def at(position: tuple[Any, ...], by: tuple[Any, ...]) -> Tuple:
    """Values to compare the columns `by` with, all at once."""
    return tuple_(*(literal(value, column.type) for value, column in zip(position, by, strict=True)))


def as_page(rows: Sequence[T], limit: int) -> Rows[T]:
    """The page that `newest_first` found."""
    items = rows[:limit]
    return Rows(items, _encode(items[-1]) if len(rows) > limit else None)


def _encode(row: Paged) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at.isoformat()} {row.id}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        moment, row_id = text.split(" ")
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is None or "\0" in row_id:
            raise ValueError(cursor)
    except (ValueError, binascii.Error) as error:
        item = ErrorItem.at("query", "cursor", code=ErrorCode.INVALID_REQUEST, detail="not a cursor of this service")
        detail = "The cursor is not from this service. Use `next_cursor` of the previous page, unchanged."
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,)) from error
    return created_at, row_id
