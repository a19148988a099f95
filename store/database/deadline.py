"""Until when a session waits for its database: set where the session begins, read wherever something waits.

It is a context variable and not an argument, because the code that waits is in the pool, the driver and SQLAlchemy.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("secateur_database_deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What waits for the database in this block waits for `seconds` altogether, or less where it is in another such block."""
    before = _deadline.get()
    _deadline.set(min(time.monotonic() + seconds, float("inf") if before is None else before))
    try:
        yield
    finally:
        _deadline.set(before)


def left(otherwise: float) -> float:
    """Seconds until the deadline, not below 0; `otherwise` where there is none."""
    until = _deadline.get()
    return otherwise if until is None else max(0.0, until - time.monotonic())


def is_over() -> bool:
    """Whether there is a deadline and it has passed."""
    until = _deadline.get()
    return until is not None and time.monotonic() >= until
