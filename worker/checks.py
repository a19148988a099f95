"""Checks uploaded datasets: each in a separate process (store/uploads/inspection), a few at once, one per tenant at a time.

A check is claimed under a lease (store/uploads/checks.py). If the upload is deleted meanwhile, or this process is told to stop,
the inspector is killed.
"""

import logging
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType

from sqlalchemy.exc import DBAPIError

from api_schemas.api.resources import JobError
from api_schemas.errors import ErrorCode, SecateurError
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.settings import Settings
from store.uploads import checks
from store.uploads.checks import Claimed
from store.uploads.inspection.dataset_process import Bounds, Inspected, InspectionStopped, inspect_in_process
from worker.supervisor.scratch import Scratch

log = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
"""Between two renewals, and so the longest that an inspector outlives its upload."""
_PASSING = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.STORAGE_FULL})


class Checker:
    """The checks of one process. Safe to call from several threads: each call is one more inspector, up to a number."""

    def __init__(
        self, settings: Settings, database: Database, artifacts: Artifacts, scratch: Scratch, stop: threading.Event
    ) -> None:
        """`stop`: set when this process is to end."""
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._scratch = scratch
        self._stop = stop
        self._slots = threading.Semaphore(settings.max_inspections)
        self._asked = threading.Event()

    def check_waiting(self) -> int:
        """Check until nothing waits that may be; returns how many were taken. Returns at once where as many run as may."""
        self._asked.set()
        taken = 0
        # Checked once more at the end: no other thread takes what arrived while this one still counted as busy.
        while self._asked.is_set() and self._slots.acquire(blocking=False):
            try:
                self._asked.clear()
                while not self._stop.is_set() and (claimed := self._claim()) is not None:
                    self._asked.set()
                    self._check(claimed)
                    taken += 1
            finally:
                self._slots.release()
        return taken

    def _claim(self) -> Claimed | None:
        with self._database.write() as session:
            return checks.claim(session, self._settings.lease_seconds)

    def _check(self, claimed: Claimed) -> None:
        with _Lease(self._database, claimed, self._settings.lease_seconds, self._stop) as lease:
            try:
                found: Inspected | JobError | None = self._inspect(claimed, lease)
            except InspectionStopped:
                found = None
            except FileNotFoundError:
                log.warning("files of %s are not in the artifact store", claimed.upload_id)
                detail = f"Files of {claimed.upload_id} no longer exist. Send them again, then call complete."
                found = JobError(code=ErrorCode.CONFLICT, detail=detail)
            except SecateurError as error:
                found = None if error.code in _PASSING else JobError.of(error)
        with self._database.write() as session:
            if found is None:
                # No effect if the upload was deleted. Due a moment later, because an immediate retry would find the same.
                checks.put_back(session, claimed, 0 if self._stop.is_set() else self._settings.retry_delay_seconds)
            elif isinstance(found, JobError):
                checks.refuse(session, claimed, found)
            else:
                checks.accept(session, claimed, found.contents.model_dump(mode="json"), found.samples)

    def _inspect(self, claimed: Claimed, lease: "_Lease") -> Inspected:
        with self._scratch.job(f"{claimed.upload_id}-{claimed.epoch}") as folder:
            for file in claimed.files:
                if not lease.held():
                    raise InspectionStopped
                if file.key is not None:
                    self._artifacts.fetch(file.key, folder / file.name, file.sha256)
            settings = self._settings
            bounds = Bounds(
                seconds=settings.inspection_seconds,
                memory_bytes=settings.inspection_memory_bytes,
                rows=settings.max_dataset_rows,
                unpacked_bytes=settings.max_unpacked_bytes,
            )
            return inspect_in_process(folder, claimed.columns, bounds, lease.held)


class _Lease(AbstractContextManager["_Lease"]):
    """Renewed by a thread of its own for as long as the block lasts."""

    def __init__(self, database: Database, claimed: Claimed, seconds: float, stop: threading.Event) -> None:
        self._database = database
        self._claimed = claimed
        self._seconds = seconds
        self._stop = stop
        self._deadline = time.monotonic() + seconds
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {claimed.upload_id}", daemon=True)

    def held(self) -> bool:
        """Whether the check is still wanted from this process."""
        return not (self._lost or self._stop.is_set() or time.monotonic() > self._deadline)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while self.held() and not self._over.wait(min(RENEW_SECONDS, self._seconds / 4)):
            asked = time.monotonic()
            try:
                with self._database.write() as session:
                    self._lost = not checks.renew(session, self._claimed, self._seconds)
            except DBAPIError as error:
                log.warning("the check of %s could not be renewed: %s", self._claimed.upload_id, error.orig)
            else:
                self._deadline = asked + self._seconds
