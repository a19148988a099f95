"""Pages hold every row once, also when rows come meanwhile, and cursors of strangers are refused."""

import base64

import pytest

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from store import jobs, transitions
from store.database import Database
from store.jobs import JobFilter
from store.tenancy import DEFAULT_TENANT
from tests.support.records import job_request


def submit(database: Database) -> str:
    with database.write() as session:
        return jobs.create(session, DEFAULT_TENANT, job_request(), {}).id


def test_pages_together_hold_every_job_once_newest_first(database: Database) -> None:
    expected = [submit(database) for _ in range(7)]
    seen: list[str] = []
    moments = []
    cursor = None
    while True:
        with database.read() as session:
            page = jobs.page(session, DEFAULT_TENANT, cursor, 3)
        seen += [job.id for job in page.items]
        moments += [job.created_at for job in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
        submit(database)  # Newer than the cursor: on no later page.
    assert sorted(seen) == sorted(expected)
    assert moments == sorted(moments, reverse=True)


def test_a_state_narrows_the_page(database: Database) -> None:
    kept, cancelled = submit(database), submit(database)
    with database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, cancelled)
    only = JobFilter(states=[JobState.QUEUED])
    with database.read() as session:
        assert [job.id for job in jobs.page(session, DEFAULT_TENANT, None, 10, only).items] == [kept]


@pytest.mark.parametrize(
    "text", ["", "x", "2026-01-01 job", "2026-01-01T00:00:00 job_a b", "2026-01-01T00:00:00+00:00 \0", "ü é"]
)
def test_a_cursor_that_is_none_is_refused(sqlite_database: Database, text: str) -> None:
    for cursor in (text, base64.urlsafe_b64encode(text.encode()).decode()):
        with pytest.raises(SecateurError) as refused, sqlite_database.read() as session:
            jobs.page(session, DEFAULT_TENANT, cursor, 10)
        assert refused.value.code is ErrorCode.INVALID_REQUEST
