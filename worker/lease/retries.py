"""Waits for services that should come back by themselves: the database and the artifact store."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, SecateurError
from store.database.connection import UNREACHABLE, Database
from store.jobs.transitions import LeaseLost
from worker.lease.heartbeat import Heartbeat

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LONGEST_WAIT = 10.0
OF_STORAGE = frozenset({ErrorCode.STORAGE_FULL, ErrorCode.STORAGE_UNAVAILABLE})

T = TypeVar("T")


def write(database: Database, action: Callable[[Session], T], seconds: float) -> T:
    """One transaction; if the database is down for less than `seconds`, a lease, the job does not end. Raises LeaseLost."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            with database.write(give_up - time.monotonic()) as session:
                return action(session)
        except UNREACHABLE as error:
            if time.monotonic() > give_up:
                raise LeaseLost from error
            log.warning("the database does not answer, trying again: %s", error)
            time.sleep(POLL_SECONDS)


def stored(action: Callable[[], T], seconds: float, beat: Heartbeat) -> T:
    """The result of `action` in the artifact store, retried for `seconds`: a finished step is worth more than a quick error.

    Raises what `action` raised last, or Interrupted.
    """
    give_up = time.monotonic() + seconds
    wait = POLL_SECONDS
    while True:
        try:
            return action()
        except SecateurError as error:
            if error.code not in OF_STORAGE or time.monotonic() + wait > give_up:
                raise
            log.warning("%s Trying again in %.1f s.", error.detail, wait)
        resume = time.monotonic() + wait
        while time.monotonic() < resume:
            beat.check()
            time.sleep(POLL_SECONDS)
        wait = min(2 * wait, LONGEST_WAIT)
