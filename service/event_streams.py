"""Event streams (server-sent events): the events of jobs as the database has them, sent as they occur.

However many streams are open, one watcher queries the database for new events and distributes them. A stream stores only the
number of the last event it sent; it reads what it missed from the recent events of its job, or from the database. Everything here
runs on the event loop; only queries go to a thread.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import JobEvent
from store.database.connection import Database
from store.jobs import event_feed, jobs
from store.jobs.event_feed import NewEvents
from store.settings import Settings

log = logging.getLogger(__name__)

Turn = Callable[[str], AbstractAsyncContextManager[None]]

KEEPALIVE_SECONDS = 15.0
"""Below what proxies commonly wait for a sign of life."""
RETRY_MILLISECONDS = 2000
"""Until a client that was cut off connects again."""
RETRY_SECONDS = 10
"""Until one that found no room tries again."""
RECENT = 64
"""Events of a job that are kept for its streams."""
PAGE = 200


@dataclass
class _Feed:
    """One job that is streamed."""

    known: int
    """Number of its newest event that the watcher has seen."""
    ended: bool
    streams: int = 0
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the next change, and then replaced."""

    def after(self, seq: int) -> list[tuple[int, bytes]] | None:
        """What was sent as events above `seq`. None where not all of that is kept."""
        if seq >= self.known:
            return []
        if not self.recent or self.recent[0][0] > seq + 1:
            return None
        return [event for event in self.recent if event[0] > seq]

    def tell(self, new_events: NewEvents | None) -> None:
        """Wake the streams; with what is new, if anything."""
        if new_events is not None:
            for event in new_events.events:
                self.recent.append((event.seq, _text(event)))
                self.known = event.seq
            self.ended = self.ended or new_events.ended
        self.changed.set()
        self.changed = asyncio.Event()


class EventStreamResponse(StreamingResponse):
    """A stream that `release` is called for when it ends, however it ends: also where it never began."""

    media_type = "text/event-stream"

    def __init__(self, stream: AsyncGenerator[bytes], release: Callable[[], None]) -> None:
        # Proxies that buffer would keep events back.
        super().__init__(stream, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._stream, self._release = stream, release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()
            await self._stream.aclose()


class EventStreams:
    """All streams of this process."""

    def __init__(self, settings: Settings, database: Database, turn: Turn) -> None:
        """`turn` is entered, with the stream's tenant, around whatever takes a thread for one stream alone."""
        self._settings, self._database, self._turn = settings, database, turn
        self._feeds: dict[str, _Feed] = {}
        self._open: Counter[str] = Counter()
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False

    def reserve(self, tenant: str) -> None:
        """Room for one more stream, until `release`. Raises TOO_MANY_STREAMS, or UNAVAILABLE while stopping."""
        if self._closed:
            raise SecateurError(ErrorCode.UNAVAILABLE, "The service is stopping. Connect again.")
        if self._open.total() >= self._settings.max_event_streams:
            detail = f"This server has {self._open.total()} event streams open, which is its limit. Try again later."
            raise SecateurError(ErrorCode.TOO_MANY_STREAMS, detail, retry_after=RETRY_SECONDS)
        if self._open[tenant] >= self._settings.max_event_streams_per_tenant:
            detail = f"You have {self._open[tenant]} event streams open, which is the limit. Close one."
            raise SecateurError(ErrorCode.TOO_MANY_STREAMS, detail, retry_after=RETRY_SECONDS)
        self._open[tenant] += 1

    def release(self, tenant: str) -> None:
        """Give room back that was reserved."""
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._open.total()

    async def stream(self, tenant: str, job_id: str, after: int, newest: int) -> AsyncGenerator[bytes]:
        """Events numbered above `after`, to the last that the job will have, or until the service stops.

        Room must have been reserved. `newest` is the number of the job's newest event now.
        """
        feed = self._feeds.setdefault(job_id, _Feed(newest, ended=False))
        feed.streams += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="event-watcher")
        try:
            yield format_sse_event(retry=RETRY_MILLISECONDS)
            while not self._closed:
                changed = feed.changed
                ready = feed.after(after)
                if ready is None:
                    async with self._turn(tenant):
                        ready = await run_in_threadpool(self._page, tenant, job_id, after)
                for seq, text in ready:
                    yield text
                    after = seq
                if ready and after < feed.known:
                    continue
                if feed.ended:
                    return
                async for sign in _signs_of_life(changed):
                    yield sign
        finally:
            feed.streams -= 1
            if not feed.streams:
                del self._feeds[job_id]

    def close(self) -> None:
        """End every stream; no more are opened."""
        self._closed = True
        for feed in self._feeds.values():
            feed.tell(None)

    async def _watch(self) -> None:
        while self._feeds and not self._closed:
            known = {job_id: feed.known for job_id, feed in self._feeds.items() if not feed.ended}
            try:
                found = await run_in_threadpool(self._new_events, known)
            except Exception as error:
                # Whatever the error, streams are better late than silent forever.
                log.warning("event streams wait, the database could not be asked: %s", error)
                found = {}
            for job_id, new_events in found.items():
                if (feed := self._feeds.get(job_id)) is not None:
                    feed.tell(new_events)
            await asyncio.sleep(self._settings.event_poll_seconds)

    def _new_events(self, known: dict[str, int]) -> dict[str, NewEvents]:
        with self._database.read() as session:
            return event_feed.new_events(session, known)

    def _page(self, tenant: str, job_id: str, after: int) -> list[tuple[int, bytes]]:
        with self._database.read() as session:
            events = jobs.events_after(session, tenant, job_id, after, PAGE)
        return [(event.seq, _text(event)) for event in events]


async def _signs_of_life(changed: asyncio.Event) -> AsyncIterator[bytes]:
    """A comment every few seconds, until `changed`."""
    while True:
        try:
            await asyncio.wait_for(changed.wait(), KEEPALIVE_SECONDS)
        except TimeoutError:
            yield KEEPALIVE_COMMENT
        else:
            return


def _text(event: JobEvent) -> bytes:
    """Without a name of its own, so that `onmessage` of a browser's EventSource gets every kind."""
    return format_sse_event(data_str=event.model_dump_json(), id=str(event.seq))
