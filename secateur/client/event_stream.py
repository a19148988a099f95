"""A job's events as they occur: from the stream, or by polling if there is no stream."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
from pydantic import ValidationError

from api_schemas.api.resources import Page
from api_schemas.results.events import JobEvent
from secateur import errors
from secateur.client.transport.connection import Connection, delay, log, parsed, segment
from secateur.client.transport.problems import error_of, retry_after_of
from secateur.client.transport.server_sent_events import Parser

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
                f"Job {job_id} has not ended after {self._seconds:g} s. It continues: wait again, or cancel it.",
                code="wait_timeout",
            )


async def follow_events(
    connection: Connection, job_id: str, after: int, deadline: Deadline
) -> AsyncGenerator[JobEvent | None]:
    """Every event numbered above `after`, to the job's last; None in between, as a sign that time has passed.

    A connection that breaks is made again, and nothing is missed or comes twice. Raises WaitTimeout, what the service says,
    or ConnectionFailed after PATIENCE.
    """
    patience = _Patience(connection, deadline)
    # Reading a stream may take SILENCE: towards a deadline, polls are more exact.
    while deadline.remaining > SILENCE:
        quiet = True
        try:
            async with aclosing(_stream(connection, job_id, after)) as stream:
                async for seq, event in stream:
                    patience.restore()
                    quiet, after = event is None, seq
                    yield event
                    if deadline.remaining <= SILENCE:
                        break
        except _EndedError:
            return
        except (_NoStreamError, errors.RateLimited):
            break
        except httpx.TransportError as error:
            await patience.bear(connection.unreachable("GET", f"/jobs/{job_id}/events", error))
            continue
        except errors.Unavailable as error:
            await patience.bear(error)
            continue
        if quiet:
            await connection.backend.sleep(max(0.0, min(RECONNECT, deadline.remaining)))
    async with aclosing(_polls(connection, job_id, after, deadline, patience)) as polls:
        async for event in polls:
            yield event


async def events_so_far(connection: Connection, job_id: str, after: int) -> AsyncGenerator[JobEvent]:
    """Every event numbered above `after` that there is by now."""
    while True:
        page = await connection.get(Page[JobEvent], f"/jobs/{segment(job_id)}/events", params={"after": after})
        for event in page.items:
            after = event.seq
            yield event
        if page.next_cursor is None:
            return


class _Patience:
    """With a service that does not answer."""

    def __init__(self, connection: Connection, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline
        self.restore()

    def restore(self) -> None:
        """It has answered."""
        self._since: float | None = None
        self._failures = 0

    async def bear(self, error: errors.SecateurError) -> None:
        """Wait before the next try. Raises `error` where it has gone on for too long."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > PATIENCE:
            raise error
        pause = delay(self._failures, error.retry_after)
        self._failures += 1
        log.warning("%s Trying again in %.1f s.", error.detail, pause)
        await self._connection.backend.sleep(max(0.0, min(pause, self._deadline.remaining)))


class _EndedError(Exception):
    """The job has ended and all its events are known."""


class _NoStreamError(Exception):
    """Something in between does not let streams through."""


async def _stream(connection: Connection, job_id: str, after: int) -> AsyncGenerator[tuple[int, JobEvent | None]]:
    """One connection's events; between them None, with the number of the last."""
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
                for seq, event in _events(parser, chunk) or [(after, None)]:
                    # A service sends nothing twice; what a proxy repeats is dropped here.
                    if seq > after or event is None:
                        after = max(after, seq)
                        yield after, event
    finally:
        await backend.close(response)


def _events(parser: Parser, chunk: bytes) -> list[tuple[int, JobEvent | None]]:
    """Those that are complete with `chunk`. Raises _NoStreamError: readable pages may still come, or a clearer error."""
    try:
        return [_event(json.loads(data)) for data in parser.feed(chunk)]
    except (ValueError, LookupError, TypeError):
        raise _NoStreamError from None


def _event(raw: Any) -> tuple[int, JobEvent | None]:
    """Its number, and what happened; None where that is of a kind that only a later version knows."""
    try:
        event = JobEvent.model_validate(raw)
    except ValidationError:
        return int(raw["seq"]), None
    return event.seq, event


async def _polls(
    connection: Connection, job_id: str, after: int, deadline: Deadline, patience: _Patience
) -> AsyncGenerator[JobEvent | None]:
    etag: str | None = None
    while True:
        deadline.check(job_id)
        headers = {"If-None-Match": etag} if etag else {}
        path = f"/jobs/{segment(job_id)}/events"
        try:
            response = await connection.call("GET", path, params={"after": after}, headers=headers, retries=0)
        except (errors.ConnectionFailed, errors.Unavailable, errors.RateLimited) as error:
            await patience.bear(error)
            continue
        patience.restore()
        more = False
        if response.status_code != 304:
            page = parsed(Page[dict[str, Any]], response)
            etag, more = response.headers.get("etag"), page.next_cursor is not None
            for item in page.items:
                after, event = _event(item)
                etag = None
                yield event
        if more:
            continue
        if "retry-after" not in response.headers:
            return
        wait = retry_after_of(response)
        yield None
        await connection.backend.sleep(max(0.0, min(wait or POLL, deadline.remaining)))
