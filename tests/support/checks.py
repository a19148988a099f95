"""What a maintenance worker does about datasets, for services that are tested without one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError

from api_schemas.spec.inputs import Columns
from service.core import waking
from service.services import Services
from store.database.connection import Database
from store.database.tables import OutboxMessage, UploadCheck
from store.files.artifacts import Artifacts
from store.queue import outbox
from store.settings import Settings
from store.uploads.inspection.dataset import inspect
from store.uploads.inspection.dataset_process import Bounds, Inspected
from store.uploads.inspection.dataset_samples import Samples
from worker import checks
from worker.checks import Checker
from worker.supervisor.scratch import Scratch


@pytest.fixture(scope="session", autouse=True)
def datasets_are_checked() -> Iterator[None]:
    """Of a service in this process, for the conftest of a folder."""
    told = waking.wake

    def wake(services: Services) -> None:
        told(services)
        with _checker(services.settings, services.database, threading.Event()) as checker:
            checker.check_waiting()
        with services.database.write() as session:
            session.execute(delete(OutboxMessage).where(OutboxMessage.topic == outbox.CHECK))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waking, "wake", wake)
        yield


@pytest.fixture(scope="module", autouse=True)
def inspected_here() -> Iterator[None]:
    """Without the process and its cage, which take longer than such small datasets and have tests of their own.

    For the conftest of a folder, and for no longer than each of its modules, or tests of the process itself would not start one.
    """

    def inspect_here(folder: Path, columns: Columns, bounds: Bounds, _: Callable[[], bool]) -> Inspected:
        samples = Samples()
        contents = inspect(folder, columns, bounds.rows, bounds.unpacked_bytes, samples)
        return Inspected(contents, tuple(samples.found))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "inspect_in_process", inspect_here)
        yield


@contextmanager
def checking(settings: Settings) -> Iterator[None]:
    """Beside a service in a process of its own, until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=_check, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _check(settings: Settings, stop: threading.Event) -> None:
    database = Database(settings.database_url)
    with _checker(settings, database, stop) as checker:
        while not stop.wait(0.05):
            try:
                with database.read() as session:
                    waiting = session.scalar(select(UploadCheck.upload_id).limit(1))
                if waiting is not None:
                    checker.check_waiting()
            except DBAPIError:
                pass  # A test has stopped the database.
    database.close()


@contextmanager
def _checker(settings: Settings, database: Database, stop: threading.Event) -> Iterator[Checker]:
    scratch = Scratch(settings.scratch / "checks")
    try:
        yield Checker(settings, database, Artifacts(settings.artifacts_url), scratch, stop)
    finally:
        scratch.close()
