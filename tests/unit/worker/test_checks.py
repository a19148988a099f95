"""The checks of datasets by a maintenance worker: inspected apart, a few at once, killed when nobody wants the answer."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_schemas.api.resources import DatasetContents, JobError
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from store.database.connection import Database
from store.database.tables import Upload
from store.files.artifacts import Artifacts
from store.settings import Settings
from store.uploads import checks, uploads
from store.uploads.inspection.dataset_process import InspectionStopped
from tests.support.uploads import LABELS, dataset_files, declared
from worker import checks as checking
from worker.checks import Checker
from worker.supervisor.scratch import Scratch

Wanted = Callable[[], bool]
PATIENCE = 60


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, retry_delay_seconds=0)


@pytest.fixture
def artifacts(settings: Settings) -> Artifacts:
    return Artifacts(settings.artifacts_url)


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def checker(
    settings: Settings, sqlite_database: Database, artifacts: Artifacts, stop: threading.Event
) -> Iterator[Checker]:
    scratch = Scratch(settings.scratch)
    yield Checker(settings, sqlite_database, artifacts, scratch, stop)
    assert list(scratch.folder.glob("dst_*")) == [], "files of a dataset were left"
    scratch.close()


@pytest.fixture
def asked(sqlite_database: Database, artifacts: Artifacts, tmp_path: Path) -> Callable[[str], str]:
    """A dataset of a tenant, whose check was asked for."""

    def asked(tenant: str = "a") -> str:
        files = dataset_files()
        with sqlite_database.write() as session:
            upload = uploads.create(session, tenant, "dataset", None, [_declared(each) for each in declared(files)])
            for name, data in files.items():
                staged = tmp_path / "staged"
                staged.write_bytes(data)
                key = uploads.artifact_key(upload.id, name, "first")
                artifacts.put_file(key, staged)
                assert uploads.record_file(session, tenant, upload.id, name, key)
            assert checks.request(session, tenant, upload.id, Columns())
            return upload.id

    return asked


def _declared(file: dict[str, object]) -> uploads.DeclaredFile:
    return uploads.DeclaredFile.model_validate(file)


def found(database: Database, upload_id: str) -> Upload:
    with database.read() as session:
        return session.get_one(Upload, upload_id)


def test_what_the_inspector_finds_is_kept(
    checker: Checker, sqlite_database: Database, asked: Callable[[str], str]
) -> None:
    upload_id = asked("a")
    assert checker.check_waiting() == 1
    upload = found(sqlite_database, upload_id)
    assert upload.state is UploadState.READY
    assert DatasetContents.model_validate(upload.description).labels == LABELS


def test_what_it_refuses_is_kept_too(
    checker: Checker, sqlite_database: Database, asked: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> DatasetContents:
        raise SecateurError(ErrorCode.DATASET_EMPTY, "no rows")

    monkeypatch.setattr(checking, "inspect_in_process", refuse)
    upload_id = asked("a")
    assert checker.check_waiting() == 1
    upload = found(sqlite_database, upload_id)
    assert upload.state is UploadState.OPEN
    assert JobError.model_validate(upload.error).code is ErrorCode.DATASET_EMPTY


def test_a_store_that_is_away_is_no_verdict(
    checker: Checker, sqlite_database: Database, artifacts: Artifacts, asked: Callable[[str], str], stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def away(*_: object) -> None:
        stop.set()  # Else it would try again until the store is back.
        raise SecateurError(ErrorCode.STORAGE_UNAVAILABLE, "away")

    upload_id = asked("a")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(artifacts, "fetch", away)
        assert checker.check_waiting() == 1
    assert found(sqlite_database, upload_id).state is UploadState.CHECKING
    stop.clear()
    assert checker.check_waiting() == 1
    assert found(sqlite_database, upload_id).state is UploadState.READY


def test_files_that_are_gone_are_said_to_be(
    checker: Checker, sqlite_database: Database, artifacts: Artifacts, asked: Callable[[str], str]
) -> None:
    upload_id = asked("a")
    artifacts.delete(uploads.artifact_key(upload_id, "train.parquet", "first"))
    assert checker.check_waiting() == 1
    upload = found(sqlite_database, upload_id)
    assert upload.state is UploadState.OPEN
    assert JobError.model_validate(upload.error).code is ErrorCode.CONFLICT


class Endless:
    """An inspector that reads until nobody wants to know; counts who is inside."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.inside = 0
        self.most = 0
        self.changed = threading.Condition()

    def __call__(self, folder: Path, columns: Columns, bounds: object, wanted: Wanted) -> DatasetContents:
        del columns, bounds
        with self.changed:
            self.begun.append(folder.name.partition("-")[0])
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        while wanted():
            threading.Event().wait(0.01)
        with self.changed:
            self.inside -= 1
        raise InspectionStopped

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= count, PATIENCE), self.begun


def test_who_deletes_the_upload_stops_its_inspector(
    checker: Checker, sqlite_database: Database, asked: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(checking, "inspect_in_process", endless := Endless())
    upload_id = asked("a")
    thread = threading.Thread(target=checker.check_waiting)
    thread.start()
    endless.wait_for(1)
    with sqlite_database.write() as session:
        assert uploads.discard(session, "a", "dataset", upload_id)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_worker_that_is_told_to_stop_puts_back_what_it_has(
    checker: Checker, sqlite_database: Database, asked: Callable[[str], str], stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(checking, "inspect_in_process", endless := Endless())
    upload_id = asked("a")
    thread = threading.Thread(target=checker.check_waiting)
    thread.start()
    endless.wait_for(1)
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with sqlite_database.write() as session:
        again = checks.claim(session, 60)
    assert again is not None
    assert again.upload_id == upload_id


def test_so_many_at_once_and_of_a_tenant_one(
    checker: Checker, asked: Callable[[str], str], stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A tenant with many datasets has one inspector; whoever comes then has the other."""
    monkeypatch.setattr(checking, "inspect_in_process", endless := Endless())
    many = {asked("many") for _ in range(5)}
    threads = [threading.Thread(target=checker.check_waiting) for _ in range(6)]
    for thread in threads[:3]:
        thread.start()
    endless.wait_for(1)
    few = asked("few")
    for thread in threads[3:]:
        thread.start()
    endless.wait_for(2)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert endless.begun[0] in many
    assert endless.begun[1:] == [few]
    assert endless.most <= 2


def test_one_that_comes_while_another_is_being_checked_is_checked_too(
    checker: Checker, sqlite_database: Database, asked: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected: list[str] = []
    later: list[str] = []

    def inspect(folder: Path, *_: object) -> DatasetContents:
        inspected.append(folder.name.partition("-")[0])
        if not later:
            later.append(asked("a"))
            assert checker.check_waiting() == 0, "of a tenant one at a time"
        raise SecateurError(ErrorCode.DATASET_EMPTY, "no rows")

    monkeypatch.setattr(checking, "inspect_in_process", inspect)
    first = asked("a")
    assert checker.check_waiting() == 2
    assert inspected == [first, *later]
    assert {found(sqlite_database, each).state for each in inspected} == {UploadState.OPEN}
