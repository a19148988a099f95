"""Removing what nobody names: never a file of a live claim, a committed step, a resumable recovery or an upload."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from api_schemas import ids
from api_schemas.api.resources import DeclaredFile
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import MaintenanceMark, TrainingFile
from store.database.tenancy import DEFAULT_TENANT
from store.files import orphans
from store.files.artifacts import Artifacts
from store.jobs import transitions
from store.jobs.transitions import Lease, LeaseLost, StepFile
from store.uploads import uploads
from tests.support.jobs.job_transitions import cancel, claim, commit, crash, expire, pause, release, running, succeed
from tests.support.jobs.records import step_metrics

GRACE = 3600.0
SHA256 = "ab" * 32


class Shelf:
    """A local store, with a say about how old each file is."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.artifacts = Artifacts(self.root.as_uri())
        self._source = folder / "source"
        self._source.write_bytes(b"x")

    def put(self, *keys: str, age: float = 2 * GRACE) -> None:
        for key in keys:
            self.artifacts.put_file(key, self._source)
            then = time.time() - age
            os.utime(self.root / key, (then, then))

    def keys(self) -> set[str]:
        return {found.key for prefix in orphans.PREFIXES for found in self.artifacts.list(prefix)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def collect(database: Database, shelf: Shelf) -> int:
    return orphans.collect(database, shelf.artifacts, GRACE, GRACE)


def step_key(lease: Lease, step: int) -> str:
    return f"jobs/{lease.job_id}/epoch-{lease.epoch}/step-{step}/model.safetensors"


def training_key(lease: Lease, step: int, epoch: int = 1) -> str:
    return f"jobs/{lease.job_id}/epoch-{lease.epoch}/step-{step}-training/epoch-{epoch}"


def commit_as_stored(database: Database, lease: Lease, step: int) -> None:
    """With the key that the claim staged it under."""
    file = StepFile(name="model.safetensors", size=1, sha256=SHA256, key=step_key(lease, step))
    with database.write() as session:
        transitions.commit_step(session, lease, step_metrics(step), [file], downloadable=True)


def save_training(database: Database, lease: Lease, step: int, epoch: int = 1) -> str:
    key = training_key(lease, step, epoch)
    with database.write() as session:
        training = TrainingFile(step=step, epoch=epoch, key=key, size=1, sha256=SHA256)
        transitions.save_training(session, lease, training)
    return key


def claim_again(database: Database, lease: Lease) -> Lease:
    new = claim(database)
    assert new == Lease(lease.job_id, lease.epoch + 1)
    return new


def test_the_age_of_a_file_is_what_the_store_says(shelf: Shelf) -> None:
    shelf.put("jobs/a", age=1000)
    (found,) = shelf.artifacts.list("jobs")
    assert (datetime.now(UTC) - found.written_at).total_seconds() == pytest.approx(1000, abs=60)


def test_files_of_committed_steps_stay_whatever_became_of_the_job(database: Database, shelf: Shelf) -> None:
    first = running(database)
    commit_as_stored(database, first, 0)
    crash(database, first)
    second = claim_again(database, first)
    commit_as_stored(database, second, 1)
    named = {step_key(first, 0), step_key(second, 1)}
    beside = f"jobs/{first.job_id}/epoch-1/step-0/other.bin"
    shelf.put(*named, beside)
    assert collect(database, shelf) == 1
    assert shelf.keys() == named
    succeed(database, second)
    assert collect(database, shelf) == 0
    assert shelf.keys() == named


@pytest.mark.parametrize("how", ["running", "running on an expired lease", "to be paused", "being cancelled"])
def test_what_a_living_claim_has_staged_stays(database: Database, shelf: Shelf, how: str) -> None:
    lease = running(database)
    if how == "running on an expired lease":
        expire(database, lease.job_id)
    elif how == "to be paused":
        pause(database, lease.job_id)
    elif how == "being cancelled":
        cancel(database, lease.job_id)
    staged = {step_key(lease, 0), training_key(lease, 1), training_key(lease, 1, 2)}
    shelf.put(*staged)
    assert collect(database, shelf) == 0
    assert shelf.keys() == staged


def test_what_an_expired_claim_staged_can_still_be_committed(database: Database, shelf: Shelf) -> None:
    lease = running(database)
    expire(database, lease.job_id)
    shelf.put(step_key(lease, 0))
    collect(database, shelf)
    commit_as_stored(database, lease, 0)
    assert collect(database, shelf) == 0
    assert shelf.artifacts.exists(step_key(lease, 0))


def test_what_an_earlier_claim_staged_goes(database: Database, shelf: Shelf) -> None:
    first = running(database)
    expire(database, first.job_id)
    second = claim_again(database, first)
    shelf.put(step_key(first, 0), step_key(second, 0))
    assert collect(database, shelf) == 1
    assert shelf.keys() == {step_key(second, 0)}
    with pytest.raises(LeaseLost):
        commit_as_stored(database, first, 0)


def test_what_was_staged_goes_once_its_claim_has_ended(database: Database, shelf: Shelf) -> None:
    """Queued or paused: nobody holds the job, and the next claim stages under another number."""
    lease = running(database)
    shelf.put(step_key(lease, 0))
    release(database, lease)
    assert collect(database, shelf) == 1
    again = claim_again(database, lease)
    shelf.put(step_key(again, 0))
    pause(database, lease.job_id)
    release(database, again)
    assert collect(database, shelf) == 1
    assert shelf.keys() == set()


def test_the_recovery_that_a_live_job_can_go_on_from_stays(database: Database, shelf: Shelf) -> None:
    first = running(database)
    commit(database, first, 0)
    older, newer = save_training(database, first, 1), save_training(database, first, 1, 2)
    shelf.put(older, newer)
    assert collect(database, shelf) == 0  # the claim lives
    pause(database, first.job_id)
    crash(database, first)
    assert collect(database, shelf) == 1
    assert shelf.keys() == {newer}
    with database.write() as session:
        transitions.resume(session, DEFAULT_TENANT, first.job_id)
    assert collect(database, shelf) == 0  # queued
    second = claim_again(database, first)
    assert collect(database, shelf) == 0  # running, under another number
    commit_as_stored(database, second, 1)
    shelf.put(step_key(second, 1))
    assert collect(database, shelf) == 1
    assert shelf.keys() == {step_key(second, 1)}


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_the_recovery_of_a_job_that_has_ended_goes(database: Database, shelf: Shelf, end: str) -> None:
    lease = running(database)
    commit(database, lease, 0)
    shelf.put(save_training(database, lease, 1), step_key(lease, 1))
    if end == "succeeded":
        succeed(database, lease)
    elif end == "failed":
        for _ in range(2):
            crash(database, lease)
            lease = claim_again(database, lease)
        assert crash(database, lease).value == "failed"
    else:
        cancel(database, lease.job_id)
        release(database, lease)
    assert collect(database, shelf) == 2
    assert shelf.keys() == set()


def test_what_an_upload_names_stays_and_what_it_replaced_goes(database: Database, shelf: Shelf) -> None:
    with database.write() as session:
        declared = [DeclaredFile(name="config.json", size=1, sha256=SHA256)]
        upload_id = uploads.create(session, DEFAULT_TENANT, "model", None, declared).id
    first, second = (uploads.artifact_key(upload_id, "config.json", attempt) for attempt in ("1", "2"))
    shelf.put(first, second)
    for key in (first, second):
        with database.write() as session:
            assert uploads.record_file(session, DEFAULT_TENANT, upload_id, "config.json", key)
    assert collect(database, shelf) == 1
    assert shelf.keys() == {second}
    with database.write() as session:
        assert uploads.discard(session, DEFAULT_TENANT, "model", upload_id)
    assert collect(database, shelf) == 1
    assert shelf.keys() == set()


def test_nothing_younger_than_the_grace_goes(database: Database, shelf: Shelf) -> None:
    unknown = f"uploads/{ids.new_id(ids.MODEL)}/1/config.json"
    shelf.put(unknown, "jobs/none/epoch-1/step-0/a", age=GRACE - 60)
    assert collect(database, shelf) == 0
    shelf.put(unknown, age=GRACE + 60)
    assert collect(database, shelf) == 1
    assert shelf.keys() == {"jobs/none/epoch-1/step-0/a"}


def test_nothing_outside_the_two_prefixes_is_touched(database: Database, shelf: Shelf) -> None:
    shelf.put("backup/jobs/a", "jobs-of-mine/b", "note")
    assert collect(database, shelf) == 0
    assert all(shelf.artifacts.exists(key) for key in ("backup/jobs/a", "jobs-of-mine/b", "note"))


def test_it_goes_through_all_files_batch_by_batch(
    database: Database, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "BATCH", 3)
    lease = running(database)
    living = {step_key(lease, step) for step in range(5)}
    dead = {f"jobs/none/epoch-{number}/step-0/a" for number in range(8)}
    dead |= {f"uploads/none/{number}/config.json" for number in range(7)}
    shelf.put(*living, *dead)
    assert collect(database, shelf) == len(dead)
    assert shelf.keys() == living
    assert collect(database, shelf) == 0
    assert shelf.keys() == living


def orphan() -> str:
    return f"uploads/{ids.new_id(ids.MODEL)}/1/config.json"


def test_a_database_that_was_restored_keeps_what_it_does_not_know(database: Database, shelf: Shelf) -> None:
    """Found by the number of a run that the store has and the older database has not; then nothing goes for a time."""
    known, unknown = orphan(), orphan()
    shelf.put(known)
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 1
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 0
    # Out of a backup that was made after the first run; what was uploaded since is in the store alone.
    with database.write() as session:
        session.execute(update(MaintenanceMark).values(number=MaintenanceMark.number - 1))
    shelf.put(unknown)
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 0
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 0
    assert shelf.keys() == {unknown}
    with database.write() as session:
        session.execute(update(MaintenanceMark).values(wait_until=now(plus=-1)))
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 1
    assert shelf.keys() == set()


def test_a_new_database_beside_an_old_store_keeps_it(
    sqlite_database: Database, postgres_database: Database, shelf: Shelf
) -> None:
    assert orphans.collect(sqlite_database, shelf.artifacts, GRACE, GRACE) == 0
    key = orphan()
    shelf.put(key)
    assert orphans.collect(postgres_database, shelf.artifacts, GRACE, GRACE) == 0
    assert shelf.keys() == {key}


def test_a_newer_database_beside_an_older_store_waits_for_nothing(database: Database, shelf: Shelf) -> None:
    for _ in range(3):
        orphans.collect(database, shelf.artifacts, GRACE, GRACE)
    marks = [found.key for found in shelf.artifacts.list(orphans.MARKS)]
    assert marks == ["marks/collected-3"]
    shelf.artifacts.delete(marks[0])
    shelf.artifacts.put_bytes("marks/collected-1", b"")
    shelf.put(orphan())
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE) == 1


def test_a_dry_run_removes_and_marks_nothing(database: Database, shelf: Shelf) -> None:
    keys = {orphan(), orphan()}
    shelf.put(*keys)
    assert orphans.collect(database, shelf.artifacts, GRACE, GRACE, dry_run=True) == 2
    assert shelf.keys() == keys
    assert not list(shelf.artifacts.list(orphans.MARKS))
