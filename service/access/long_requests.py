"""Long requests, such as streams, downloads and uploads that take hours: re-checks whether their key is still valid.

One task checks the keys and sessions of all open requests together, every few seconds. If a key is no longer valid, a stream is
broken off and an upload refused. A response in one piece is still sent: its contents were requested while the key was valid.
Everything here runs on the event loop; only queries go to a thread.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from service.access.caller import Caller
from service.problems import BodyRefused
from store.access import api_keys, sessions
from store.database.connection import Database

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
_GONE: Message = {"type": "http.disconnect"}


# Compared by identity: two requests of one key are two.
@dataclass(eq=False)
class _Request:
    """One that is under way."""

    caller: Caller
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its key, or its session, is found to open nothing any more."""
    received: bool = False
    """Its body has come: nothing but the end of the connection is to be waited for."""
    streaming: bool = False
    """An answer of unknown length has begun and has not ended."""


class LongRequests:
    """All requests of this process that a key was given for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: set[_Request] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, caller: Caller, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """`app`, for as long as the caller's key is valid."""
        request = _Request(caller)

        async def receive_while_valid() -> Message:
            if request.received:
                return await _first(receive, request.ended)
            message = await receive()
            if request.ended.is_set():
                # Raised where the body is read, inside the application, so that it is answered like any other error.
                detail = "The key was revoked or expired, or the session ended, while the body was being sent."
                raise BodyRefused(SecateurError(ErrorCode.UNAUTHENTICATED, detail))
            request.received = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def send_while_valid(message: Message) -> None:
            more = message["type"] == "http.response.body" and message.get("more_body", False)
            if more and request.ended.is_set():
                return
            if message["type"] == "http.response.start":
                request.streaming = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            elif not more:
                request.streaming = False
            await send(message)

        self._open.add(request)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="key-watcher")
        try:
            await app(scope, receive_while_valid, send_while_valid)
        finally:
            self._open.remove(request)
        if request.ended.is_set() and request.streaming:
            # A stream just ends, and who connects again is told why. A download of a known length stays short of it, at
            # which the server closes the connection.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def check(self) -> None:
        """Check every request that is open now, and end those whose key or session has ended."""
        asked = tuple(self._open)
        for request in await run_in_threadpool(self._ended, asked):
            log.info("key %s is no longer valid: ending a request that uses it", request.caller.key_id)
            request.ended.set()

    async def _watch(self) -> None:
        while self._open:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except Exception as error:
                # Whatever it is: new requests are refused meanwhile, and these are asked for again.
                log.warning(
                    "the keys of open requests are not checked, because the database is not available: %s", error
                )

    def _ended(self, asked: Iterable[_Request]) -> list[_Request]:
        keys = {request.caller.key_id for request in asked if request.caller.key_id is not None}
        tokens = {request.caller.session for request in asked if request.caller.session is not None}
        if not keys:
            return []
        with self._database.read() as session:
            valid = api_keys.still_valid_of(session, keys)
            living = sessions.living_of(session, tokens)
        return [
            request
            for request in asked
            if request.caller.key_id not in valid
            or (request.caller.session is not None and request.caller.session not in living)
        ]


async def _first(receive: Receive, ended: asyncio.Event) -> Message:
    """What comes, or the end of the connection where `ended` is first."""
    coming, end = asyncio.ensure_future(receive()), asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait((coming, end), return_when=asyncio.FIRST_COMPLETED)
        return _GONE if end.done() else coming.result()
    finally:
        for waiting in (coming, end):
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
