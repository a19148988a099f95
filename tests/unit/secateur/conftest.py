"""Clients of a service that is a function: what it is asked, and what it answers, is the test's."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from secateur import AsyncSecateur, Secateur
from tests.support.both_clients import Awaited, sleeping

Answers = Callable[[httpx.Request], httpx.Response]


class Connect:
    """Makes clients of one kind."""

    def __init__(self, kind: str, loop: asyncio.AbstractEventLoop) -> None:
        self._kind, self._loop = kind, loop
        self.naps: list[float] = []
        """How long they would have waited."""

    def __call__(self, answers: Answers, url: str = "http://service", **more: Any) -> Any:
        transport = httpx.MockTransport(lambda request: unread(answers(request)))
        if self._kind == "sync":
            return Secateur(url, http_client=httpx.Client(transport=transport), sleep=self.naps.append, **more)
        http = httpx.AsyncClient(transport=transport)
        return Awaited(AsyncSecateur(url, http_client=http, sleep=sleeping(self.naps.append), **more), self._loop)


def unread(response: httpx.Response) -> httpx.Response:
    """The same, as it comes from a network: once, and still to be read."""
    stream = httpx.ByteStream(response.content)
    return httpx.Response(response.status_code, headers=response.headers, stream=stream)


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    loop = asyncio.new_event_loop()
    yield Connect(request.param, loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
