"""Times by the database's own clock, so that processes on several machines agree about a lease.

PostgreSQL answers with `clock_timestamp()`: the current moment, not the start of the transaction, because a transaction may have
waited for a lock. SQLite (3.40 has no `unixepoch('subsec')`) answers with `strftime('%Y-%m-%d %H:%M:%f', 'now')`: UTC text with
milliseconds, which sorts by time; all its processes share one machine and one clock.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Float, String, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

SQLITE_LENGTH = len("2026-01-31 23:59:59.999")


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime: `timestamptz` on PostgreSQL, text of fixed form on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(SQLITE_LENGTH) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return None if value is None else value.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    """The moment, plus its one argument in seconds."""

    type = Instant()
    inherit_cache = True


def now(plus: float | ColumnElement[Any] = 0.0) -> _Now:
    """An SQL expression: the database's present moment, `plus` seconds later."""
    return _Now(cast(plus, Float))


def moment(session: Session, plus: float = 0.0) -> datetime:
    """The same as a value. PostgreSQL looks nothing up in an index by a time that goes on while it looks."""
    found: datetime = session.execute(now(plus).select()).scalar_one()
    return found


@compiles(_Now, "sqlite")
def _on_sqlite(element: _Now, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds}))"


@compiles(_Now, "postgresql")
def _on_postgresql(element: _Now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"
