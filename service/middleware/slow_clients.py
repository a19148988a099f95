"""uvicorn's HTTP protocol with deadlines, which uvicorn lacks.

Use it with `uvicorn --http service.middleware.slow_clients:BoundedProtocol`.

A connection costs memory and a file descriptor as long as it is open, and a client that sends a byte a minute keeps it open
forever. So the head of a request must arrive within a time limit, its body at a minimum rate, and the client must read the
response. A client that is slower gets 408, if that is still possible, and the connection is closed. Time spent waiting for the
service is not counted.
"""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.errors import ErrorCode, Problem
from service.problems import MEDIA_TYPE, status_of
from store.settings import get_settings

LOOKS = 4
"""In a window: how often a connection is looked at."""


class BoundedProtocol(H11Protocol):
    """One connection. Times are in seconds on the monotonic clock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = get_settings()
        self._head_seconds = settings.receive_head_seconds
        self._window_seconds = settings.transfer_window_seconds
        self._least = settings.transfer_bytes_per_second * settings.transfer_window_seconds
        self._next_look: asyncio.TimerHandle | None = None
        self._head_begun: float | None = None
        self._body_window, self._received = 0.0, 0
        self._taken = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_begun = self._body_window = self._taken = time.monotonic()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._head_begun is None and self.conn.their_state is h11.IDLE:
            self._head_begun = time.monotonic()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_begun = None

    def resume_writing(self) -> None:
        """The client has taken most of what was in the buffer."""
        self._taken = time.monotonic()
        super().resume_writing()

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(min(self._head_seconds, self._window_seconds) / LOOKS, self._look)

    def _look(self) -> None:
        self._look_later()
        now = time.monotonic()
        if self.transport.get_write_buffer_size() == 0:
            self._taken = now
        if not self._body_is_due():
            self._body_window, self._received = now, 0
        if now - self._taken > self._window_seconds:
            # Half an answer lies untaken: closing would wait for that, too.
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._head_begun is not None and now - self._head_begun > self._head_seconds:
            self._refuse(f"The request headers must arrive within {self._head_seconds:g} seconds.")
        elif now - self._body_window > self._window_seconds:
            if self._received < self._least:
                least = f"{self._least:g} bytes in {self._window_seconds:g} seconds"
                self._refuse(f"The request body must arrive faster than {least}.")
            self._body_window, self._received = now, 0

    def _body_is_due(self) -> bool:
        """Whether more of a body is to come, and it is not this side that holds it up."""
        held_up = self.flow.read_paused or self.conn.they_are_waiting_for_100_continue
        return self.conn.their_state is h11.SEND_BODY and not held_up

    def _refuse(self, reason: str) -> None:
        """408 where something was asked and no answer has begun, and the end of the connection."""
        asked = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if asked and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            code = ErrorCode.TOO_SLOW
            problem = Problem(title=ERROR_TEXTS[code].title, status=status_of(code), code=code, detail=reason)
            body = problem.model_dump_json(exclude_none=True).encode()
            head = f"HTTP/1.1 {problem.status} Request Timeout\r\ncontent-type: {MEDIA_TYPE}\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
