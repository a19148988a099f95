"""What expires loses its files and keeps its rows; what a living job needs does not expire."""

from sqlalchemy import update

from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from store import retention
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, Upload
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
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
