"""The client with `await`."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from secateur.client.transport.api_calls import ApiCalls
from secateur.client.transport.backend import AsyncBackend
from secateur.client.transport.connection import address, http_options, open_connection, separated


class AsyncSecateur(ApiCalls):
    """Client of a service, on asyncio. All calls of `Secateur`, awaited; lists, events and logs are asynchronous iterators.

    >>> async with AsyncSecateur() as client:
    ...     model = await client.upload_model("./my-ast")
    ...     data = await client.upload_dataset("./my-data")
    ...     job = await client.submit(model, data, sparsity=0.5)
    ...     async for event in job.events():
    ...         print(event.body.type)

    Args: as for `Secateur`, but `http_client` is an httpx.AsyncClient, and `sleep` is like asyncio.sleep.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        max_retries: int = 5,
        first_contact_retries: int | None = None,
        http_client: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        given = address(url)
        self.url, _ = separated(given)
        options: dict[str, Any] = http_options(self.url, timeout)
        self._own = http_client is None
        self._backend = AsyncBackend(http_client or httpx.AsyncClient(**options), sleep)
        super().__init__(open_connection(self._backend, given, api_key, max_retries, first_contact_retries))

    async def close(self) -> None:
        """Close the connections; an `http_client` that was passed in stays open."""
        if self._own:
            await self._backend.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncSecateur {self.url}>"
