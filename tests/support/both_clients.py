"""One way to call both clients: AsyncSecateur on an event loop of its own, looking like Secateur.

Tests are written once, without `await`, and run on both.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from secateur import AsyncCheckpoint, AsyncJob, AsyncSecateur, AsyncSweep
from secateur.client.resources.async_administration import AsyncKeys, AsyncWebhooks
from secateur.client.resources.async_uploads_and_jobs import AsyncDatasets, AsyncJobs, AsyncModels, AsyncSweeps

_RESOURCES = (AsyncJobs, AsyncModels, AsyncDatasets, AsyncSweeps)
_OURS = (AsyncSecateur, AsyncJob, AsyncSweep, AsyncCheckpoint, AsyncKeys, AsyncWebhooks, *_RESOURCES)


class Awaited:
    """`thing`, whose coroutines are run, and whose asynchronous iterators are walked, on `loop`."""

    def __init__(self, thing: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.thing, self._loop = thing, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.thing, name)
        if not inspect.ismethod(found):
            return self._settled(found)
        return lambda *given, **named: self._called(found, given, named)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._called(self.thing, given, named)

    def _called(self, function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self._settled(function(*map(bare, given), **{key: bare(value) for key, value in named.items()}))

    def __repr__(self) -> str:
        return repr(self.thing)

    def _settled(self, found: Any) -> Any:
        if isinstance(found, Coroutine):
            found = self._loop.run_until_complete(found)
        if isinstance(found, AsyncGenerator):
            return self._walked(found)
        if isinstance(found, list):
            return [self._settled(each) for each in found]
        return Awaited(found, self._loop) if isinstance(found, _OURS) else found

    def _walked(self, source: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._loop.run_until_complete(anext(source))
                except StopAsyncIteration:
                    return
                yield self._settled(item)
        finally:
            self._loop.run_until_complete(source.aclose())


def bare(value: Any) -> Any:
    """What an Awaited stands for."""
    return value.thing if isinstance(value, Awaited) else value


def sleeping(record: Callable[[float], object]) -> Callable[[float], Coroutine[Any, Any, None]]:
    """A `sleep` of the asynchronous client from one of the other."""

    async def sleep(seconds: float) -> None:
        record(seconds)

    return sleep
