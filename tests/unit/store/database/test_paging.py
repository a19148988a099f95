"""Pages hold every row once, also when rows come meanwhile, and cursors of strangers are refused."""

import base64
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.labels import parse_selector
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, JobLabel
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import job_lists, jobs, transitions
from store.jobs.job_lists import JobFilter
from tests.support.jobs.records import job_request


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
            page = job_lists.page(session, DEFAULT_TENANT, cursor, 3)
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
        assert [job.id for job in job_lists.page(session, DEFAULT_TENANT, None, 10, only).items] == [kept]


@pytest.mark.parametrize(
    "text", ["", "x", "2026-01-01 job", "2026-01-01T00:00:00 job_a b", "2026-01-01T00:00:00+00:00 \0", "ü é"]
)
def test_a_cursor_that_is_none_is_refused(sqlite_database: Database, text: str) -> None:
    for cursor in (text, base64.urlsafe_b64encode(text.encode()).decode()):
        with pytest.raises(SecateurError) as refused, sqlite_database.read() as session:
            job_lists.page(session, DEFAULT_TENANT, cursor, 10)
        assert refused.value.code is ErrorCode.INVALID_REQUEST


LABELS = st.sampled_from([{}, {"team": "a"}, {"team": "b"}, {"team": "a", "urgent": ""}])
MOVES = st.lists(
    st.one_of(st.tuples(st.just("page"), st.integers(1, 4)), st.tuples(st.just("submit"), LABELS)), max_size=12
)


@given(st.lists(LABELS, max_size=8), MOVES, st.sampled_from([(), ("team=a",), ("team",), ("team=a", "urgent")]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_hold_whatever_is_inserted_between_them(
    sqlite_database: Database,
    before: list[dict[str, str]],
    moves: list[tuple[str, Any]],
    labels: tuple[str, ...],
) -> None:
    """Each job that was there at the first page comes once, in order, and none that came later."""
    database = sqlite_database
    with database.write() as session:
        session.execute(delete(Job))

    def labelled(wanted: dict[str, str]) -> str:
        with database.write() as session:
            return jobs.create(session, DEFAULT_TENANT, job_request(labels=wanted), {}).id

    def matches(wanted: dict[str, str]) -> bool:
        return all(key in wanted and value in (None, wanted[key]) for key, value in map(parse_selector, labels))

    there = [job_id for job_id, wanted in [(labelled(wanted), wanted) for wanted in before] if matches(wanted)]
    # All of one moment, so that the id decides.
    with database.write() as session:
        moment = session.execute(now(plus=-60).select()).scalar_one()
        session.execute(update(Job).values(created_at=moment))
        session.execute(update(JobLabel).values(created_at=moment))
    seen: list[str] = []
    cursor, ended, begun = None, False, False
    for move, argument in [*moves, *[("page", 3)] * 10]:
        if move == "submit" and begun:
            labelled(argument)
        elif move == "page" and not ended:
            with database.read() as session:
                page = job_lists.page(session, DEFAULT_TENANT, cursor, argument, JobFilter(labels=labels))
            begun, cursor, ended = True, page.next_cursor, page.next_cursor is None
            seen += [job.id for job in page.items]
    assert seen == sorted(there, reverse=True)
