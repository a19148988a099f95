"""A job's events as they come: by the stream, and by polling where there is none."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
from pydantic import ValidationError

from api_schemas.events import JobEvent
from api_schemas.resources import Page
from secateur import errors
from secateur.client.connection import Connection, delay, hopeless, parsed, segment
from secateur.client.problems import error_of, retry_after_of
from secateur.client.server_sent import Parser, TooLongError

SILENCE = 45.0
"""Seconds without a sign of life after which a stream is dead; the service sends one every 15."""
PATIENCE = 300.0
"""Seconds without an answer after which following is given up: a service that is restarted is back sooner."""
RECONNECT = 2.0
POLL = 2.0
_STREAM = "text/event-stream"


class Deadline:
    """`seconds` from now, or never."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds; infinite where there is no deadline."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    def check(self, job_id: str) -> None:
        """Raises WaitTimeout."""
        if self.remaining <= 0:
            raise errors.WaitTimeout(
                f"Job {job_id} has not ended after {self._seconds:g} s. It goes on: wait again, or cancel it.",
                code="wait_timeout",
            )


async def signs(connection: Connection, job_id: str, after: int, deadline: Deadline) -> AsyncGenerator[JobEvent | None]:
    """Every event numbered above `after`, to the job's last; None in between, as a sign that time has passed.

    A connection that breaks is made again, and nothing is missed or comes twice. Raises WaitTimeout, what the service says,
    or ConnectionFailed after PATIENCE.
    """
    failing_since: float | None = None
    failures = 0
    # Reading a stream may take SILENCE: towards a deadline, polls are more exact.
    while deadline.remaining > SILENCE:
        pause = RECONNECT
        try:
            async with aclosing(_stream(connection, job_id, after)) as stream:
                async for event in stream:
                    failing_since, failures, pause = None, 0, 0.0
                    if event is not None:
                        after = event.seq
                    yield event
                    if deadline.remaining <= SILENCE:
                        break
        except _EndedError:
            return
        except (_NoStreamError, errors.RateLimited):
            break
        except (httpx.TransportError, errors.Unavailable) as error:
            failing_since = failing_since or time.monotonic()
            path = f"/jobs/{job_id}/events"
            broken = connection.unreachable("GET", path, error) if isinstance(error, httpx.TransportError) else error
            if time.monotonic() - failing_since > PATIENCE or (
                isinstance(error, httpx.TransportError) and hopeless(error)
            ):
                raise broken from error
            pause = delay(failures, getattr(error, "retry_after", None))
            failures += 1
        if pause:
            await connection.backend.sleep(min(pause, max(0.0, deadline.remaining)))
    async with aclosing(_polls(connection, job_id, after, deadline)) as polls:
        async for event in polls:
            yield event


async def past(connection: Connection, job_id: str, after: int) -> AsyncGenerator[JobEvent]:
    """Every event numbered above `after` that there is by now."""
    while True:
        page = await connection.get(Page[JobEvent], f"/jobs/{segment(job_id)}/events", params={"after": after})
        for event in page.items:
            after = event.seq
            yield event
        if page.next_cursor is None:
            return


class _EndedError(Exception):
    """The job has ended and all its events are known."""


class _NoStreamError(Exception):
    """Something in between does not let streams through."""


async def _stream(connection: Connection, job_id: str, after: int) -> AsyncGenerator[JobEvent | None]:
    backend, parser = connection.backend, Parser()
    headers = {"Accept": _STREAM, "Last-Event-ID": str(after), "Cache-Control": "no-store"}
    response = await connection.open("GET", f"/jobs/{segment(job_id)}/events", headers=headers, patience=SILENCE)
    try:
        if response.status_code == 204:
            raise _EndedError
        if response.status_code >= 300:
            await backend.read(response)
            raise error_of(response)
        if response.headers.get("content-type", "").partition(";")[0].strip().lower() != _STREAM:
            raise _NoStreamError
        async with aclosing(backend.chunks(response)) as chunks:
            async for chunk in chunks:
                found = False
                for data in parser.feed(chunk):
                    event = JobEvent.model_validate_json(data)
                    # A service sends nothing twice; what a proxy repeats is dropped here.
                    if event.seq > after:
                        found, after = True, event.seq
                        yield event
                if not found:
                    yield None
    except (TooLongError, ValidationError):
        # Readable pages may still come, or a clearer error.
        raise _NoStreamError from None
    finally:
        await backend.close(response)


async def _polls(
    connection: Connection, job_id: str, after: int, deadline: Deadline
) -> AsyncGenerator[JobEvent | None]:
    etag: str | None = None
    while True:
        deadline.check(job_id)
        headers = {"If-None-Match": etag} if etag else {}
        response = await connection.call(
            "GET", f"/jobs/{segment(job_id)}/events", params={"after": after}, headers=headers
        )
        more = False
        if response.status_code != 304:
            page = parsed(Page[JobEvent], response)
            etag, more = response.headers.get("etag"), page.next_cursor is not None
            for event in page.items:
                after, etag = event.seq, None
                yield event
        if more:
            continue
        if "retry-after" not in response.headers:
            return
        wait = retry_after_of(response)
        yield None
        await connection.backend.sleep(max(0.0, min(wait or POLL, deadline.remaining)))
