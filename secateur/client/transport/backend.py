"""The client's coroutines reach the outside (HTTP, files and waiting) only through this, with and without an event loop.

Everything above is written once, with `await`. On `SyncBackend` nothing that is awaited ever waits for an event loop, so a
coroutine runs to its end without suspending: `run` drives it, in the caller's own thread (docs/adr/0017-one-client-twice.md).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Backend(Protocol):
    """What the client needs of the outside."""

    def request(self, method: str, url: str, **more: Any) -> httpx.Request:
        """A request, not yet sent."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Its answer, of which only the head has been read. Raises httpx.TransportError."""

    async def read(self, response: httpx.Response) -> bytes:
        """The rest of an answer. Raises httpx.TransportError."""

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """The rest of an answer as it comes. Raises httpx.TransportError."""

    async def close(self, response: httpx.Response) -> None:
        """Give up the rest of an answer."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def work(self, function: Callable[[], T]) -> T:
        """Do what takes the disk or the processor."""

    async def end(self) -> None:
        """Close all connections."""


class SyncBackend:
    """Blocks."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], object] = time.sleep) -> None:
        self._http, self._sleep = http, sleep

    def request(self, method: str, url: str, **more: Any) -> httpx.Request:
        return self._http.build_request(method, url, **more)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request, stream=True, follow_redirects=False)

    async def read(self, response: httpx.Response) -> bytes:
        return response.read()

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        for chunk in response.iter_raw():
            yield chunk

    async def close(self, response: httpx.Response) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return function()

    async def end(self) -> None:
        self._http.close()


class AsyncBackend:
    """Waits on asyncio; what takes the disk or the processor goes to a thread."""

    def __init__(self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._http, self._sleep = http, sleep

    def request(self, method: str, url: str, **more: Any) -> httpx.Request:
        return self._http.build_request(method, url, **more)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True, follow_redirects=False)

    async def read(self, response: httpx.Response) -> bytes:
        return await response.aread()

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        async for chunk in response.aiter_raw():
            yield chunk

    async def close(self, response: httpx.Response) -> None:
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    async def end(self) -> None:
        await self._http.aclose()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine on a SyncBackend returns. Raises what it raises."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        found: T = ended.value
        return found
    coroutine.close()
    raise RuntimeError("a coroutine of the blocking client waited for an event loop")


def iterate(source: AsyncGenerator[T]) -> Iterator[T]:
    """The items of an asynchronous generator on a SyncBackend. It is closed with the iterator."""
    try:
        while True:
            try:
                item = run(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(source.aclose())
