"""Checks of datasets: of a tenant one at a time, tenants in turns, and nothing lost or done twice whoever vanishes."""

import secrets
from collections.abc import Iterable

from sqlalchemy import select, update

from api_schemas.api.resources import DeclaredFile, JobError
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode
from api_schemas.spec.inputs import Columns
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import OutboxMessage, Upload, UploadCheck
from store.queue import outbox
from store.uploads import checks, uploads
from store.uploads.checks import Claimed

LEASE = 60.0
REFUSED = JobError(code=ErrorCode.DATASET_EMPTY, detail="The dataset has no rows.")


def dataset(database: Database, tenant: str = "a", sent: bool = True) -> str:
    """An open one; its file has come where it was `sent`."""
    with database.write() as session:
        file = DeclaredFile(name="train.parquet", size=3, sha256=secrets.token_hex(32))
        upload = uploads.create(session, tenant, "dataset", None, [file])
        if sent:
            assert uploads.record_file(session, tenant, upload.id, file.name, f"uploads/{upload.id}/train.parquet")
        return upload.id


def asked(database: Database, tenant: str = "a") -> str:
    upload_id = dataset(database, tenant)
    with database.write() as session:
        assert checks.request(session, tenant, upload_id, Columns())
    return upload_id


def claim(database: Database) -> Claimed | None:
    with database.write() as session:
        return checks.claim(session, LEASE)


def claimed(database: Database) -> Claimed:
    found = claim(database)
    assert found is not None
    return found


def upload(database: Database, upload_id: str) -> Upload:
    with database.read() as session:
        return session.get_one(Upload, upload_id)


def let_leases_end(database: Database) -> None:
    with database.write() as session:
        session.execute(
            update(UploadCheck).where(UploadCheck.lease_until.is_not(None)).values(lease_until=now(plus=-1))
        )


def order(database: Database, count: int) -> Iterable[str]:
    """Whose checks are made, one after the other."""
    for _ in range(count):
        check = claimed(database)
        yield upload(database, check.upload_id).tenant
        with database.write() as session:
            assert checks.accept(session, check, {})


def test_a_dataset_is_checked_and_becomes_ready(database: Database) -> None:
    upload_id = asked(database)
    assert upload(database, upload_id).state is UploadState.CHECKING
    with database.read() as session:
        assert session.scalars(select(OutboxMessage.topic)).all() == [outbox.CHECK]
    check = claimed(database)
    assert (check.upload_id, check.columns, [file.name for file in check.files]) == (
        upload_id,
        Columns(),
        ["train.parquet"],
    )
    with database.write() as session:
        assert checks.accept(session, check, {"rows": {"train": 1}})
    assert upload(database, upload_id).state is UploadState.READY
    assert upload(database, upload_id).description == {"rows": {"train": 1}}
    assert claim(database) is None


def test_one_that_is_refused_is_open_and_says_why_until_it_is_checked_again(database: Database) -> None:
    upload_id = asked(database)
    check = claimed(database)
    with database.write() as session:
        assert checks.refuse(session, check, REFUSED)
    found = upload(database, upload_id)
    assert (found.state, JobError.model_validate(found.error)) == (UploadState.OPEN, REFUSED)
    with database.write() as session:
        assert checks.request(session, "a", upload_id, Columns(label="word"))
    assert upload(database, upload_id).error is None
    assert claimed(database).columns.label == "word"


def test_only_an_open_upload_whose_files_have_come_is_checked_and_only_its_owners_word_counts(
    database: Database,
) -> None:
    waiting, missing = asked(database), dataset(database, sent=False)
    for tenant, upload_id in (("a", waiting), ("a", missing), ("b", dataset(database)), ("a", "dst_none")):
        with database.write() as session:
            assert not checks.request(session, tenant, upload_id, Columns())


def test_of_a_tenant_one_at_a_time(database: Database) -> None:
    for _ in range(2):
        asked(database)
    first = claimed(database)
    assert claim(database) is None
    with database.write() as session:
        assert checks.accept(session, first, {})
    assert claim(database) is not None


def test_tenants_take_turns_however_many_one_has_waiting(database: Database) -> None:
    for _ in range(4):
        asked(database, "many")
    asked(database, "few")
    asked(database, "few")
    assert list(order(database, 3)) == ["many", "few", "many"]
    asked(database, "late")
    assert list(order(database, 4)).index("late") <= 2


def test_those_of_one_tenant_come_in_the_order_in_which_they_were_asked_for(database: Database) -> None:
    wanted = [asked(database) for _ in range(4)]
    with database.write() as session:
        for age, upload_id in enumerate(wanted):
            then = now(plus=age - 100)
            session.execute(
                update(UploadCheck).where(UploadCheck.upload_id == upload_id).values(asked_at=then, waits_since=then)
            )
    found = []
    for _ in wanted:
        found.append(claimed(database))
        with database.write() as session:
            assert checks.accept(session, found[-1], {})
    assert [check.upload_id for check in found] == wanted


def test_whoever_lost_the_lease_writes_nothing(database: Database) -> None:
    upload_id = asked(database)
    slow = claimed(database)
    let_leases_end(database)
    taken = claimed(database)
    assert taken.epoch == slow.epoch + 1
    with database.write() as session:
        assert not checks.renew(session, slow, LEASE)
        assert not checks.accept(session, slow, {"wrong": True})
        assert not checks.refuse(session, slow, REFUSED)
        checks.put_back(session, slow)
        assert checks.renew(session, taken, LEASE)
        assert checks.accept(session, taken, {"right": True})
    assert upload(database, upload_id).description == {"right": True}


def test_who_deletes_the_upload_takes_the_check_with_it(database: Database) -> None:
    upload_id = asked(database)
    check = claimed(database)
    with database.write() as session:
        assert uploads.discard(session, "a", "dataset", upload_id)
        assert not checks.renew(session, check, LEASE)
        assert not checks.accept(session, check, {})
    assert claim(database) is None


def test_what_was_put_back_waits_and_is_no_failure(database: Database) -> None:
    asked(database)
    for _ in range(2 * checks.MOST_FAILURES):
        check = claimed(database)
        with database.write() as session:
            checks.put_back(session, check)
    check = claimed(database)
    with database.write() as session:
        checks.put_back(session, check, wait_seconds=1000)
    assert claim(database) is None


def test_a_dataset_that_kills_whoever_reads_it_is_refused_in_the_end(database: Database) -> None:
    upload_id = asked(database)
    for _ in range(checks.MOST_FAILURES):
        claimed(database)
        let_leases_end(database)
    assert claim(database) is None
    found = upload(database, upload_id)
    assert found.state is UploadState.OPEN
    assert "died 3 times" in JobError.model_validate(found.error).detail


def test_files_cannot_change_while_they_are_read(database: Database) -> None:
    upload_id = asked(database)
    with database.write() as session:
        assert not uploads.record_file(session, "a", upload_id, "train.parquet", "uploads/other")
