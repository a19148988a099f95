"""PostgreSQL's engine: every wait for the server ends, whether the server is busy, frozen, unreachable or down.

The server cancels a statement that takes too long, and ends a transaction whose client is silent, so a frozen process blocks
nobody with its locks. This does not help if the server itself is frozen: it accepts connections and bytes and never responds. So
the client also gives up, at its session's deadline, and closes the connection.
"""

from collections.abc import Generator
from math import ceil
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import READY_NONE
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

from store.database import deadline

LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")
CONNECT_SECONDS = 5.0
_LEAST_CONNECT_SECONDS = 2.0
"""Below it libpq does not go."""
# A database that vanished must be noticed well within a lease.
_CONNECT: dict[str, Any] = {
    "tcp_user_timeout": 10_000,  # Milliseconds that sent bytes may stay unanswered.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
# What is asked here is a few rows by an index: to start workers for it takes longer than to find them.
_ALONE = "-c max_parallel_workers_per_gather=0"

T = TypeVar("T")


class EncodingError(ValueError):
    """The database cannot hold every text: its encoding is another than UTF-8."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where the server has not answered by the deadline of the session that asks it."""

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        """As psycopg's. Raises psycopg.OperationalError at the deadline."""
        return super().wait(self._until_deadline(gen), *args, **options)

    def _until_deadline(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        """The same, asked at every turn; psycopg turns ten times a second while the server is silent."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready == READY_NONE and deadline.is_over():
                    self.close()
                    raise psycopg.OperationalError("the database did not answer in time; the connection was closed")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def engine(url: URL, seconds: float) -> Engine:
    """`seconds`: the longest statement, the longest silence of a client in a transaction, the longest wait for a connection."""
    limits = " ".join([*(f"-c {name}={ceil(seconds * 1000)}" for name in LIMITS), _ALONE])
    given = url.query.get("options", ())
    options = " ".join(
        [limits, *((given,) if isinstance(given, str) else given)]
    )  # Options that the caller gave come last and win.
    made = create_engine(url, pool_pre_ping=True, pool_timeout=seconds, connect_args={**_CONNECT, "options": options})
    event.listen(made, "do_connect", _connect)
    event.listen(made, "handle_error", _said_as_unreachable)
    return made


def _connect(_: Any, __: Any, arguments: Any, options: dict[str, Any]) -> psycopg.Connection[Any]:
    wait = max(_LEAST_CONNECT_SECONDS, min(CONNECT_SECONDS, deadline.left(CONNECT_SECONDS)))
    made = BoundedConnection.connect(*arguments, **{**options, "connect_timeout": ceil(wait)})
    encoding = made.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = made.info.dbname
        made.close()
        raise EncodingError(
            f"The encoding of the PostgreSQL database {name} is {encoding}, but must be UTF8. Create another and name it in "
            f"SECATEUR_DATABASE_URL: CREATE DATABASE secateur ENCODING 'UTF8' TEMPLATE template0;"
        )
    return made


def _said_as_unreachable(context: ExceptionContext) -> OperationalError | None:
    """A connection that the server ended for its client's silence is lost like any other, whatever PostgreSQL calls that."""
    error = context.sqlalchemy_exception
    if not context.is_disconnect or error is None or isinstance(error, OperationalError):
        return None
    return OperationalError(context.statement, context.parameters, context.original_exception)
