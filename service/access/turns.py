"""Shares threads fairly: requests of one tenant wait for one another before they delay another tenant's."""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.access.caller import CALLER_KEY, Caller

MOST_THREADS = 16
"""Of the forty that answer requests in a process, those of one tenant at most."""


class Turns:
    """So many of a tenant at once; more wait on the event loop, in their order. For use on the event loop alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, tenant: str) -> AsyncIterator[None]:
        """Around what is to be done."""
        semaphore = self._semaphores.setdefault(tenant, asyncio.Semaphore(self._most))
        self._here[tenant] += 1
        try:
            async with semaphore:
                yield
        finally:
            self._here[tenant] -= 1
            if not self._here[tenant]:
                del self._here[tenant], self._semaphores[tenant]


class FairRoute(APIRoute):
    """A plain function runs in a thread: it waits for one of its tenant's. A coroutine takes care itself of what it does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if inspect.iscoroutinefunction(self.endpoint):
            return handler

        async def in_turn(request: Request) -> Response:
            caller: Caller | None = getattr(request.state, CALLER_KEY, None)
            turns: Turns = request.app.state.services.turns
            async with turns.one("" if caller is None else caller.tenant):
                return await handler(request)

        return in_turn
