"""What may be deleted, and what a job still needs: checked in the transaction that deletes, whatever was looked at before."""

import pytest

from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode, SecateurError
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.deletion import delete_job, delete_ready_upload
from store.uploads import uploads
from tests.support.jobs.job_transitions import cancel, commit, running, submit, succeed
from tests.support.jobs.records import job_request

ANOTHER = "another"


def model(database: Database, *, ready: bool = True) -> str:
    with database.write() as session:
        files = [DeclaredFile(name="a", size=1, sha256="ab" * 32)]
        found = uploads.create(session, DEFAULT_TENANT, "model", None, files).id
        assert uploads.record_file(session, DEFAULT_TENANT, found, "a", f"uploads/{found}/1/a")
        if ready:
            assert uploads.mark_ready(session, DEFAULT_TENANT, found, {})
    return found


def submit_with(database: Database, model_id: str) -> str:
    """A job that needs `model_id`: an upload, or a job that it goes on from a step of."""
    with database.write() as session:
        return jobs.create(session, DEFAULT_TENANT, job_request(), {"model": model_id}).id


def test_an_upload_goes_once_and_only_when_complete_and_ones_own(database: Database) -> None:
    complete, unfinished = model(database), model(database, ready=False)
    with database.write() as session:
        assert not delete_ready_upload(session, ANOTHER, complete)
        assert not delete_ready_upload(session, DEFAULT_TENANT, unfinished)
        assert delete_ready_upload(session, DEFAULT_TENANT, complete)
    with database.write() as session:
        # As where two delete it at once: the second was told that it is complete.
        assert not delete_ready_upload(session, DEFAULT_TENANT, complete)
        gone, kept = (uploads.get(session, DEFAULT_TENANT, "model", upload) for upload in (complete, unfinished))
        assert gone is not None
        assert kept is not None
        assert (gone.state, gone.files[0].key) == (UploadState.DELETED, None)
        assert (kept.state, kept.files[0].key is not None) == (UploadState.OPEN, True)


def test_what_a_job_needs_stays_until_it_has_ended(database: Database) -> None:
    upload_id, lease = model(database), running(database)
    commit(database, lease, 0)
    commit(database, lease, 1)
    succeed(database, lease)
    needing = [submit_with(database, upload_id), submit_with(database, lease.job_id)]
    with pytest.raises(SecateurError, match=upload_id) as refused, database.write() as session:
        delete_ready_upload(session, DEFAULT_TENANT, upload_id)
    assert refused.value.code is ErrorCode.CONFLICT
    with pytest.raises(SecateurError, match=lease.job_id) as refused, database.write() as session:
        delete_job(session, DEFAULT_TENANT, lease.job_id)
    assert refused.value.code is ErrorCode.CONFLICT
    for job_id in needing:
        cancel(database, job_id)
    with database.write() as session:
        assert delete_ready_upload(session, DEFAULT_TENANT, upload_id)
        assert delete_job(session, DEFAULT_TENANT, lease.job_id)
        assert not delete_job(session, DEFAULT_TENANT, lease.job_id)
        assert jobs.steps(session, DEFAULT_TENANT, lease.job_id) == []


def test_a_job_goes_when_it_has_ended(database: Database) -> None:
    job_id = submit(database)
    with database.write() as session:
        assert not delete_job(session, DEFAULT_TENANT, job_id)
        transitions.cancel(session, DEFAULT_TENANT, job_id)
        assert not delete_job(session, ANOTHER, job_id)
        assert delete_job(session, DEFAULT_TENANT, job_id)


def test_a_step_is_held_for_whoever_has_it(database: Database) -> None:
    lease = running(database)
    commit(database, lease, 0)
    commit(database, lease, 1)
    with database.write() as session:
        assert jobs.hold_step(session, DEFAULT_TENANT, lease.job_id, 1)
        assert not jobs.hold_step(session, DEFAULT_TENANT, lease.job_id, 0)  # It has metrics only.
        assert not jobs.hold_step(session, DEFAULT_TENANT, lease.job_id, 2)
        assert not jobs.hold_step(session, ANOTHER, lease.job_id, 1)
        assert not jobs.hold_step(session, DEFAULT_TENANT, "job_" + "0" * 26, 1)
