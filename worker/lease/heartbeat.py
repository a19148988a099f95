"""Keeps a lease alive from a separate thread, and says when and why the work must stop.

It also makes this worker fence itself: the time of a renewal is taken before the renewal is sent, by this machine's monotonic
clock, so the lease ends here no later than in the database. If no renewal succeeds by then, the job counts as lost, and the
engine is killed before another worker can have started one. The thread waits for a renewal only until that moment; if a frozen
database completes it afterwards, the supervisor undoes this by handing the job back.
"""

import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api_schemas.api.resources import JobProgress
from api_schemas.enums import JobState
from store.database.connection import Database
from store.jobs import logs, transitions
from store.settings import Settings
from worker.children.job_log import JobLog

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0


class Reason(StrEnum):
    """Why work on a job stops before its end."""

    CANCELLED = "cancelled"
    LOST = "lost"
    OVERTIME = "overtime"
    PAUSED = "paused"
    PREEMPTED = "preempted"
    SHUTDOWN = "shutdown"


class Interrupted(Exception):
    """Work on the job must stop."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Heartbeat:
    """`with Heartbeat(...) as beat:` renews until the block ends; call `beat.check()` in every loop of the work."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        lease: transitions.Lease,
        shutdown: threading.Event,
        log: JobLog,
        renewed_at: float,
        seconds_left: float | None = None,
    ) -> None:
        """`renewed_at`: time.monotonic() from before the claim; `seconds_left`: how long the job may still run."""
        self._database = database
        self._settings = settings
        self._lease = lease
        self._shutdown = shutdown
        self._log = log
        self._shipping = threading.Lock()  # Each piece of the log is written once.
        self._deadline = renewed_at + settings.lease_seconds
        self._counted = renewed_at
        self._overtime = math.inf if seconds_left is None else renewed_at + seconds_left
        self._progress: JobProgress | None = None
        self._cancelled = False
        self._lost = False
        self._unanswered = False
        self._kill: Callable[[], None] | None = None
        self._done = threading.Event()
        # Pass the logging context on to the thread.
        run = partial(contextvars.copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name=f"heartbeat-{lease.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def reason(self) -> Reason | None:
        """Why to stop, or None. A lost lease comes first, because nothing may be written about the job any more."""
        now = time.monotonic()
        if self._lost or now > self._deadline:
            return Reason.LOST
        if self._cancelled:
            return Reason.CANCELLED
        if now > self._overtime:
            return Reason.OVERTIME
        return Reason.SHUTDOWN if self._shutdown.is_set() else None

    @property
    def unanswered(self) -> bool:
        """Whether the last attempted renewal got no response: if the lease is then lost, the database is the cause."""
        return self._unanswered

    def check(self) -> None:
        """Raise Interrupted if the work must stop."""
        if reason := self.reason:
            raise Interrupted(reason)

    def report(self, progress: JobProgress) -> None:
        """Progress to store with the next renewal, within about a second."""
        self._progress = progress

    def kill_when_lost(self, kill: Callable[[], None]) -> None:
        """`kill` is called from the heartbeat's thread as soon as the lease is lost, whatever the work is waiting for."""
        self._kill = kill

    def _run(self) -> None:
        last = time.monotonic()
        pause = min(PROGRESS_SECONDS, self._settings.heartbeat_seconds)
        while not self._done.wait(pause):
            now = time.monotonic()
            due = now - last >= self._settings.heartbeat_seconds
            # A failed renewal is retried in the next iteration, not at the next heartbeat.
            if (due or self._progress is not None) and self._renew(now):
                last = now
            if self.reason is Reason.LOST:
                log.error("job %s is lost to this worker: its engine is killed", self._lease.job_id)
                if self._kill is not None:
                    self._kill()
                return

    def _still_mine(self) -> None:
        """Raise LeaseLost after the deadline: a lease that was lost for a moment, which others may have seen, stays lost."""
        if self.reason is Reason.LOST:
            raise transitions.LeaseLost(self._lease)

    def flush(self) -> None:
        """Add the remaining time and write the rest of the log, while the job is still this worker's.

        What the database does not accept is lost.
        """
        if self.reason is not Reason.LOST:
            self._renew(time.monotonic())
        try:
            while self._log.next_piece() is not None:
                with self._shipping:
                    with self._database.write() as session:
                        end = self._keep_log(session)
                    self._log.taken(end)
        except transitions.LeaseLost:
            self._lost = True
        except SQLAlchemyError as error:
            log.warning("the end of the log of job %s could not be kept: %s", self._lease.job_id, error)

    def _keep_log(self, session: Session) -> int:
        """Write the next piece of the collected log; returns its end, to be passed to `taken` after the commit."""
        piece = self._log.next_piece()
        if piece is None:
            return 0
        logs.append(session, self._lease, piece.start, piece.text, self._log.max_bytes)
        return piece.end

    def _renew(self, now: float) -> bool:
        """False if the database did not respond. Does not renew what the work has given up by then, or may have."""
        progress, self._progress = self._progress, None
        try:
            with self._shipping:
                ran = max(0.0, now - self._counted)
                self._still_mine()
                self._unanswered = True
                with self._database.write(self._deadline - now) as session:
                    state = transitions.renew(session, self._lease, self._settings.lease_seconds, progress, ran)
                    end = self._keep_log(session)
                    self._still_mine()
                self._still_mine()
                self._log.taken(end)
                self._counted += ran
        except transitions.LeaseLost:
            self._lost = True
        except SQLAlchemyError as error:
            log.warning("the lease of job %s could not be renewed, trying again: %s", self._lease.job_id, error)
            return False
        else:
            self._deadline, self._unanswered = now + self._settings.lease_seconds, False
            self._cancelled = state is JobState.CANCELLING
        return True
