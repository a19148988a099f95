"""The audit log: a row stands with its change and falls with it."""

import pytest
from sqlalchemy import func, select, update

from api_schemas.enums import AuditAction
from store.access import audit
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import AuditRow, Job
from store.jobs import jobs
from tests.support.jobs.records import job_request


def submit(database: Database, *, fails: bool = False) -> None:
    with database.write() as session:
        job = jobs.create(session, "a", job_request(), {})
        audit.record(session, "a", AuditAction.CREATE_JOB, job.id, key_id="key_1", request_id="r-1")
        if fails:
            raise KeyError


def test_the_entry_stands_with_its_change_and_falls_with_it(database: Database) -> None:
    submit(database)
    with pytest.raises(KeyError):
        submit(database, fails=True)
    with database.read() as session:
        [row] = audit.page(session, "a", None, 10).items
        assert session.scalars(select(Job.id)).all() == [row.object_id]
        assert (row.key_id, row.action, row.request_id, row.outcome) == ("key_1", "create_job", "r-1", "done")
        assert audit.page(session, "b", None, 10).items == []


def test_old_entries_are_removed(database: Database) -> None:
    submit(database)
    submit(database)
    with database.write() as session:
        oldest = session.scalars(select(AuditRow.id).limit(1)).one()
        session.execute(update(AuditRow).where(AuditRow.id == oldest).values(created_at=now(plus=-100)))
    assert audit.expire(database, 1000) == 0
    assert audit.expire(database, 50) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditRow)) == 1
