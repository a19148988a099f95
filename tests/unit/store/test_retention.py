"""What expires loses its files and keeps its rows; what a living job needs does not expire."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from store import retention
from store.database import batches, stored_bytes
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Base, Job, JobEventRow, JobLogRow, JobStep, Upload, UploadFile
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, logs, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from store.uploads import uploads
from tests.support.jobs.records import job_request, step_file, step_metrics

DAY = 86400.0


def settings(**retentions: float | None) -> Settings:
    return Settings(**{"open_upload_seconds": 7 * DAY} | retentions)


def upload(database: Database, kind: uploads.UploadKind, *, ready: bool = True, days_old: float = 0) -> str:
    with database.write() as session:
        upload_id = uploads.create(
            session, DEFAULT_TENANT, kind, None, [DeclaredFile(name="a", size=1, sha256="ab" * 32)]
        ).id
        assert uploads.record_file(session, DEFAULT_TENANT, upload_id, "a", f"uploads/{upload_id}/1/a")
        if ready:
            assert uploads.mark_ready(session, DEFAULT_TENANT, upload_id, {})
        session.execute(update(Upload).where(Upload.id == upload_id).values(created_at=now(plus=-days_old * DAY)))
    return upload_id


def state(database: Database, kind: uploads.UploadKind, upload_id: str) -> tuple[UploadState, str | None]:
    with database.read() as session:
        found = uploads.get(session, DEFAULT_TENANT, kind, upload_id)
    assert found is not None
    return found.state, found.files[0].key


def job_with_a_step(database: Database, model: str, dataset: str) -> Lease:
    with database.write() as session:
        jobs.create(session, DEFAULT_TENANT, job_request(model, dataset), {"model": model, "dataset": dataset})
        claimed = transitions.claim(session, "a", 60, 3)
        assert claimed is not None
        lease = Lease(claimed.id, claimed.epoch)
        for step in (0, 1):
            files = [step_file(lease.job_id, step)]
            transitions.commit_step(session, lease, step_metrics(step), files, downloadable=step > 0)
    return lease


def test_an_upload_that_was_never_completed_expires_and_a_complete_one_stays(database: Database) -> None:
    forgotten = upload(database, "model", ready=False, days_old=8)
    recent = upload(database, "model", ready=False, days_old=6)
    complete = upload(database, "model", days_old=1000)
    assert retention.expire(database, settings()) == retention.Expired(uploads=1, jobs=0)
    assert state(database, "model", forgotten) == (UploadState.EXPIRED, None)
    assert state(database, "model", recent)[0] is UploadState.OPEN
    assert state(database, "model", complete)[0] is UploadState.READY
    assert retention.expire(database, settings()) == retention.Expired(0, 0)


def test_the_inputs_of_a_living_job_are_kept_until_it_has_ended(database: Database) -> None:
    model, dataset = upload(database, "model", days_old=9), upload(database, "dataset", days_old=9)
    lease = job_with_a_step(database, model, dataset)
    short = settings(upload_retention_seconds=8 * DAY)
    assert retention.expire(database, short).uploads == 0
    with database.write() as session:
        transitions.succeed(session, lease)
    assert retention.expire(database, short).uploads == 2
    assert state(database, "dataset", dataset) == (UploadState.EXPIRED, None)


def test_checkpoints_expire_with_their_time_and_metrics_stay(database: Database) -> None:
    lease = job_with_a_step(database, upload(database, "model"), upload(database, "dataset"))
    short = settings(result_retention_seconds=8 * DAY)
    with database.write() as session:
        transitions.succeed(session, lease)
    assert retention.expire(database, short).jobs == 0
    with database.write() as session:
        session.execute(update(Job).values(finished_at=now(plus=-9 * DAY)))
    assert retention.expire(database, settings()).jobs == 0
    assert retention.expire(database, short).jobs == 1
    assert retention.expire(database, short).jobs == 0
    with database.read() as session:
        steps = jobs.steps(session, DEFAULT_TENANT, lease.job_id)
    assert [(step.expired, step.files, step.metrics.step) for step in steps] == [(True, [], 0), (True, [], 1)]


def test_an_input_that_is_about_to_expire_is_not_taken_for_a_job(database: Database) -> None:
    model, dataset = upload(database, "model", days_old=9), upload(database, "dataset")
    with database.write() as session:
        assert uploads.hold_ready(session, DEFAULT_TENANT, {model, dataset})
    retention.expire(database, settings(upload_retention_seconds=8 * DAY))
    with database.write() as session:
        assert not uploads.hold_ready(session, DEFAULT_TENANT, {model, dataset})
        assert uploads.hold_ready(session, DEFAULT_TENANT, {dataset})


def test_what_living_jobs_need_does_not_stand_in_the_way_of_the_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs of paused jobs, older than all else and more than a batch."""
    monkeypatch.setattr(batches, "ROWS", 3)
    needed = [upload(database, "model", days_old=20) for _ in range(7)]
    free = [upload(database, "model", days_old=9) for _ in range(7)]
    with database.write() as session:
        for model in needed:
            job = jobs.create(session, DEFAULT_TENANT, job_request(model), {"model": model})
            transitions.pause(session, DEFAULT_TENANT, job.id)
    assert retention.expire(database, settings(upload_retention_seconds=8 * DAY)).uploads == len(free)
    assert {state(database, "model", model)[0] for model in needed} == {UploadState.READY}
    assert {state(database, "model", model)[0] for model in free} == {UploadState.EXPIRED}


def test_steps_that_jobs_go_on_from_do_not_stand_in_the_way_either(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ROWS", 2)
    monkeypatch.setattr(retention, "JOBS", 2)
    ended = [ended_job(database, days_ago=20 - number) for number in range(6)]
    with database.write() as session:
        for job_id in ended[:3]:
            later = jobs.create(session, DEFAULT_TENANT, job_request(), {"model": job_id, "model_step": "1"})
            transitions.pause(session, DEFAULT_TENANT, later.id)
    expired = retention.expire(database, settings(result_retention_seconds=DAY))
    assert expired.jobs == 3
    assert [kept_files(database, job_id) for job_id in ended] == [2, 2, 2, 0, 0, 0]
    assert retention.expire(database, settings(job_retention_seconds=DAY)).ended_jobs == 3
    with database.read() as session:
        there = [job.deleted_at is None for job_id in ended if (job := jobs.get(session, DEFAULT_TENANT, job_id))]
    assert there == [True, True, True, False, False, False]


def ended_job(database: Database, days_ago: float) -> str:
    lease = job_with_a_step(database, upload(database, "model"), upload(database, "dataset"))
    with database.write() as session:
        logs.append(session, lease, 0, "what the engine wrote", 2**20)
        transitions.succeed(session, lease)
        ended = {"finished_at": now(plus=-days_ago * DAY)}
        session.execute(update(Job).where(Job.id == lease.job_id).values(ended))
        written = update(JobLogRow).where(JobLogRow.job_id == lease.job_id)
        session.execute(written.values(created_at=now(plus=-days_ago * DAY)))
    return lease.job_id


def kept_files(database: Database, job_id: str) -> int:
    with database.read() as session:
        return sum(len(step.files) for step in jobs.steps(session, DEFAULT_TENANT, job_id))


def count(database: Database, table: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_events_and_logs_go_before_the_job_does(database: Database) -> None:
    old, recent = ended_job(database, days_ago=9), ended_job(database, days_ago=1)
    events = count(database, JobEventRow)
    short = settings(event_retention_seconds=8 * DAY, log_retention_seconds=8 * DAY)
    expired = retention.expire(database, short)
    assert (expired.events, expired.logs, expired.ended_jobs) == (1, 1, 0)
    assert count(database, JobEventRow) == events / 2
    assert retention.expire(database, short) == retention.Expired(0, 0)
    with database.read() as session:
        of_old, of_recent = (jobs.get(session, DEFAULT_TENANT, job_id) for job_id in (old, recent))
        assert logs.attempts(session, DEFAULT_TENANT, old) == []
        assert logs.attempts(session, DEFAULT_TENANT, recent) == [1]
    assert of_old is not None
    assert of_old.events_gone_at is not None
    assert of_recent is not None
    assert of_recent.events_gone_at is None


def test_a_job_goes_whole_after_its_time_and_its_tombstone_after_another(database: Database) -> None:
    old, recent = ended_job(database, days_ago=9), ended_job(database, days_ago=1)
    kept = settings(job_retention_seconds=8 * DAY, tombstone_seconds=2 * DAY)
    assert retention.expire(database, kept).ended_jobs == 1
    with database.read() as session:
        tombstone = jobs.get(session, DEFAULT_TENANT, old)
        assert tombstone is not None
        assert (tombstone.deleted_at is None, tombstone.stored_bytes) == (False, 0)
        assert stored_bytes.differing(session) == set()
    for table in (JobStep, JobEventRow, JobLogRow):
        with database.read() as session:
            assert set(session.scalars(select(table.job_id))) == {recent}  # type: ignore[attr-defined]
    assert retention.expire(database, kept) == retention.Expired(0, 0)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == old).values(deleted_at=now(plus=-3 * DAY)))
    assert retention.expire(database, kept).tombstones == 1
    with database.read() as session:
        assert jobs.get(session, DEFAULT_TENANT, old) is None
        assert jobs.get(session, DEFAULT_TENANT, recent) is not None


def test_a_tombstone_of_an_upload_goes_with_its_files(database: Database) -> None:
    gone, kept = upload(database, "model", days_old=9), upload(database, "model")
    short = settings(upload_retention_seconds=8 * DAY, tombstone_seconds=DAY)
    assert retention.expire(database, short).tombstones == 0
    with database.write() as session:
        session.execute(update(Upload).where(Upload.id == gone).values(gone_at=now(plus=-2 * DAY)))
    assert retention.expire(database, short).tombstones == 1
    with database.read() as session:
        assert set(session.scalars(select(UploadFile.upload_id))) == {kept}


def test_by_default_nothing_of_the_last_months_goes(database: Database) -> None:
    ended_job(database, days_ago=80)
    assert retention.expire(database, Settings()) == retention.Expired(0, 0)
    ended_job(database, days_ago=400)
    expired = retention.expire(database, Settings())
    assert (expired.ended_jobs, expired.jobs, expired.logs) == (1, 0, 0)


def test_two_that_let_go_at_once_count_bytes_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 2)
    for _ in range(6):
        ended_job(database, days_ago=9)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: retention.expire(database, settings(result_retention_seconds=DAY)), range(2)))
    found.append(retention.expire(database, settings(result_retention_seconds=DAY)))
    assert sum(expired.jobs for expired in found) == 6
    with database.read() as session:
        assert stored_bytes.differing(session) == set()
