"""The one watcher of event streams: cheap in thousands, bounded, patient with its database. No server between."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import StateChanged
from service import event_streams
from service.access.turns import Turns
from service.event_streams import EventStreams
from store.database.connection import Database
from store.database.tables import Job, JobEventRow
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import deletion, transitions
from store.settings import Settings
from tests.support.jobs.records import job_request


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def fast(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"event_poll_seconds": 0.05, **changes})


def made(database: Database, count: int) -> list[str]:
    """Queued jobs, each with its first event."""
    found = [f"job_{number:026d}" for number in range(count)]
    common = {
        "request": job_request(),
        "lineage": {},
        "state": JobState.QUEUED,
        "last_seq": 1,
        "tenant": DEFAULT_TENANT,
    }
    with database.write() as session:
        session.execute(insert(Job), [{"id": job_id, **common} for job_id in found])
        first = {"seq": 1, "body": StateChanged(state=JobState.QUEUED), "tenant": DEFAULT_TENANT}
        session.execute(insert(JobEventRow), [{"job_id": job_id, **first} for job_id in found])
    return found


async def first_events(stream: AsyncGenerator[bytes], count: int) -> list[bytes]:
    """As many events, comments and the retry time left out."""
    found: list[bytes] = []
    while len(found) < count:
        if (text := await anext(stream)).startswith(b"data"):
            found.append(text)
    return found


@pytest.mark.parametrize("jobs_count", [1, 1000])
def test_a_thousand_streams_cost_a_few_queries_and_no_threads(
    settings: Settings, sqlite_database: Database, jobs_count: int
) -> None:
    """One watcher asks for all of them; a new event of one job is read once, however many wait for it."""
    job_ids = made(sqlite_database, jobs_count)
    streams = EventStreams(
        fast(settings, max_event_streams=1000, max_event_streams_per_tenant=1000), sqlite_database, Turns(2)
    )
    queries: list[str] = []

    async def run() -> None:
        opened = []
        for number in range(1000):
            streams.reserve(DEFAULT_TENANT)
            opened.append(streams.stream(DEFAULT_TENANT, job_ids[number % jobs_count], after=1, newest=1))
        waiting = [asyncio.create_task(first_events(stream, 1)) for stream in opened]
        await asyncio.sleep(0.3)
        threads = threading.active_count()
        event.listen(sqlite_database.engine, "before_cursor_execute", lambda *given: queries.append(given[2]))
        began = time.monotonic()
        await asyncio.sleep(1)
        idle, rounds = len(queries), (time.monotonic() - began) / 0.05 + 1
        # Two for the jobs, 500 at a time, and three of the session.
        assert idle <= rounds * (jobs_count // 500 + 4), queries[:10]
        assert threads < 50
        with sqlite_database.write() as session:
            changed = transitions.cancel(session, DEFAULT_TENANT, job_ids[0])
        assert changed.last_seq == 2
        for_it = [task for number, task in enumerate(waiting) if number % jobs_count == 0]
        got = await asyncio.wait_for(asyncio.gather(*for_it), 20)
        assert all(b"cancelled" in texts[0] for texts in got)
        assert sum("job_events" in text and "SELECT" in text for text in queries) == 1
        streams.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in opened:
            await stream.aclose()

    asyncio.run(run())


def test_streams_are_bounded_by_process_and_tenant(settings: Settings, sqlite_database: Database) -> None:
    streams = EventStreams(
        fast(settings, max_event_streams=3, max_event_streams_per_tenant=2), sqlite_database, Turns(2)
    )
    for tenant in ("a", "a", "b"):
        streams.reserve(tenant)
    with pytest.raises(SecateurError, match="This server") as refused:
        streams.reserve("c")
    assert refused.value.code is ErrorCode.TOO_MANY_STREAMS
    streams.release("b")
    with pytest.raises(SecateurError, match="You have 2 event streams") as refused:
        streams.reserve("a")
    assert refused.value.code is ErrorCode.TOO_MANY_STREAMS
    streams.reserve("c")
    streams.close()
    with pytest.raises(SecateurError) as stopping:
        streams.reserve("c")
    assert stopping.value.code is ErrorCode.UNAVAILABLE


def test_a_stream_where_nothing_happens_says_that_it_lives(
    settings: Settings, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "KEEPALIVE_SECONDS", 0.05)
    (job_id,) = made(sqlite_database, 1)
    streams = EventStreams(fast(settings), sqlite_database, Turns(2).one)

    async def run() -> list[bytes]:
        streams.reserve(DEFAULT_TENANT)
        async with aclosing(streams.stream(DEFAULT_TENANT, job_id, after=1, newest=1)) as stream:
            return [await anext(stream) for _ in range(3)]

    retry, *signs = asyncio.run(run())
    assert retry.startswith(b"retry: ")
    assert signs == [b": ping\n\n"] * 2


def test_a_database_that_was_away_is_asked_again(
    settings: Settings, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = made(sqlite_database, 1)
    streams = EventStreams(fast(settings), sqlite_database, Turns(2).one)
    failures = 0
    new_events = streams._new_events

    def failing(known: dict[str, int]) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise OSError("no route to host")
        return new_events(known)

    monkeypatch.setattr(streams, "_new_events", failing)

    async def run() -> list[bytes]:
        streams.reserve(DEFAULT_TENANT)
        with sqlite_database.write() as session:
            transitions.cancel(session, DEFAULT_TENANT, job_id)
        stream = streams.stream(DEFAULT_TENANT, job_id, after=1, newest=1)
        return [text async for text in stream]

    assert b"cancelled" in asyncio.run(run())[-1]
    assert failures >= 3


def test_a_job_deleted_under_its_stream_ends_it(settings: Settings, sqlite_database: Database) -> None:
    (job_id,) = made(sqlite_database, 1)
    streams = EventStreams(fast(settings), sqlite_database, Turns(2).one)

    async def run() -> None:
        streams.reserve(DEFAULT_TENANT)
        stream = streams.stream(DEFAULT_TENANT, job_id, after=1, newest=1)
        assert (await anext(stream)).startswith(b"retry")
        with sqlite_database.write() as session:
            transitions.cancel(session, DEFAULT_TENANT, job_id)
            assert deletion.delete_job(session, DEFAULT_TENANT, job_id)
        assert [text async for text in stream if text.startswith(b"data")] == []

    asyncio.run(asyncio.wait_for(run(), 20))
