"""Announces every few seconds that this worker is alive and what it has, and looks for work in case it missed a wake-up.

A wake-up says "look for work" to whichever worker receives it, and that worker may not be able to hold the job. So each idle
worker asks now and then whether a job that fits it is waiting (docs/adr/0044-capabilities.md).
"""

import logging
import threading
from collections.abc import Callable, Iterable

from store.database.connection import UNREACHABLE, Database
from store.jobs import jobs
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import fits
from store.jobs.workers.live_workers import Announcement
from store.machine import disk_of
from store.settings import Settings

log = logging.getLogger(__name__)


class Announcer:
    """A thread that runs from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        who: Announcement,
        predecessors: Iterable[str],
        idle: Callable[[], bool],
    ) -> None:
        """`predecessors`: workers that are known to be dead. `idle`: whether no job is running."""
        self._settings, self._database, self._who, self._idle = settings, database, who, idle
        self._gone = set(predecessors)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, look: Callable[[], None]) -> None:
        """Announce at once and then with every heartbeat. `look` must start looking for work and return at once."""
        self._thread = threading.Thread(target=self._run, args=(look,), name="announcer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Remove the announcement; if the database does not respond, it expires."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            try:
                with self._database.write() as session:
                    live_workers.forget(session, [self._who.id])
            except UNREACHABLE as error:
                log.warning("the shutdown of this worker cannot be recorded: %s", error)

    def _run(self, look: Callable[[], None]) -> None:
        while True:
            try:
                if self._announce():
                    look()
            except UNREACHABLE as error:
                log.warning("this worker cannot be registered, because the database does not respond: %s", error)
            except Exception:
                # If this thread ended, a working worker would count as dead.
                log.exception("this worker cannot be registered")
            if self._done.wait(self._settings.heartbeat_seconds):
                return

    def _announce(self) -> bool:
        """Returns whether there is work to look for."""
        settings = self._settings
        with self._database.write() as session:
            if self._gone:
                live_workers.forget(session, self._gone)
            live_workers.announce(session, self._who, settings.lease_seconds, disk_of(settings.scratch))
        self._gone.clear()
        if not self._idle():
            return False
        held = fits(self._who.capability)
        with self._database.read() as session:
            return jobs.count_claimable(session, settings.failure_cap, settings.max_running_jobs, 1, held) > 0
