"""Bytes that are counted as they come and go are what the rows of files add up to, whatever happened, also at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import update

from api_schemas import ids
from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from store.access import quotas
from store.database import stored_bytes
from store.database.connection import Database
from store.database.tables import StoredBytes
from store.jobs import deletion, transitions
from store.jobs.transitions import StepFile
from store.uploads import uploads
from tests.support.jobs.job_transitions import running, succeed
from tests.support.jobs.records import step_metrics

FILES = [DeclaredFile(name="a", size=700, sha256="ab" * 32), DeclaredFile(name="b", size=3, sha256="cd" * 32)]


def counted(database: Database, tenant: str = "default") -> int:
    with database.read() as session:
        assert stored_bytes.differing(session) == set()
        assert (
            stored_bytes.total(session)
            >= stored_bytes.of(session, tenant)
            == quotas.usage(session, tenant).stored_bytes
        )
        return stored_bytes.of(session, tenant)


def declare(database: Database, tenant: str = "default") -> str:
    with database.write() as session:
        return uploads.create(session, tenant, "model", None, FILES).id


def test_uploads_count_from_their_declaration_until_they_are_given_up(database: Database) -> None:
    first, second, third = declare(database), declare(database), declare(database)
    declare(database, "other")
    assert (counted(database), counted(database, "other")) == (2109, 703)
    with database.write() as session:
        assert uploads.discard(session, "default", "model", first)
        assert not uploads.discard(session, "default", "model", first)
        for number, name in enumerate("ab"):
            assert uploads.record_file(session, "default", second, name, f"uploads/{second}/{number}/{name}")
        assert uploads.mark_ready(session, "default", second, {})
    assert counted(database) == 1406
    with database.write() as session:
        assert deletion.delete_ready_upload(session, "default", second)
        deletion.give_up(session, {third}, UploadState.EXPIRED)
    assert (counted(database), counted(database, "other")) == (0, 703)


def test_steps_count_until_their_job_is_deleted(database: Database) -> None:
    lease = running(database)
    for step in (0, 1):
        files = [
            StepFile(f"{name}.bin", 10**12, "ab" * 32, f"jobs/{lease.job_id}/epoch-1/{step}/{name}") for name in "ab"
        ]
        with database.write() as session:
            transitions.commit_step(session, lease, step_metrics(step), files, downloadable=step > 0)
    assert counted(database) == 4 * 10**12
    succeed(database, lease)
    with database.write() as session:
        assert deletion.delete_job(session, "default", lease.job_id)
        assert not deletion.delete_job(session, "default", lease.job_id)
    assert counted(database) == 0


def test_what_comes_and_goes_at_once_is_counted_once(database: Database) -> None:
    start = threading.Barrier(4)

    def come_and_go(_: int) -> None:
        start.wait()
        for _ in range(5):
            upload_id = declare(database)
            declare(database)
            with database.write() as session:
                uploads.discard(session, "default", "model", upload_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert counted(database) == 20 * 703


def test_a_wrong_number_is_found_and_counted_anew(database: Database) -> None:
    declare(database)
    declare(database, "other")
    with database.write() as session:
        session.execute(update(StoredBytes).where(StoredBytes.tenant == "other").values(size=1))
        stored_bytes.add(session, ids.new_id("nobody"), 5)
    with database.read() as session:
        assert {tenant[:6] for tenant in stored_bytes.differing(session)} == {"other", "nobody"}
    with database.write() as session:
        stored_bytes.count_anew(session)
    assert (counted(database), counted(database, "other")) == (703, 703)
