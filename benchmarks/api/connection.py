"""A lean HTTP/1.1 client: one kept connection, so that what is measured is the server and not its client."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

CHUNK = 2**20


@dataclass(frozen=True)
class Answer:
    """A response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """To 127.0.0.1; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=CHUNK))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """A request with a small body, and its answer."""
        self._begin(method, path, len(body), headers)
        self._writer.write(body)
        await self._writer.drain()
        status, found = await self._head()
        return Answer(status, found, await self._reader.readexactly(int(found.get("content-length", 0))))

    async def put(self, path: str, chunks: AsyncIterator[bytes], size: int) -> Answer:
        """A file as the body."""
        return await self.send("PUT", path, chunks, size, {"content-type": "application/octet-stream"})

    async def send(
        self, method: str, path: str, chunks: AsyncIterator[bytes], size: int, headers: Mapping[str, str]
    ) -> Answer:
        """A request with a large body, and its answer."""
        self._begin(method, path, size, headers)
        async for chunk in chunks:
            self._writer.write(chunk)
            await self._writer.drain()
        status, found = await self._head()
        return Answer(status, found, await self._reader.readexactly(int(found.get("content-length", 0))))

    async def download(self, path: str) -> int:
        """Read an answer and drop it; how many bytes it had."""
        self._begin("GET", path, 0, {})
        await self._writer.drain()
        status, found = await self._head()
        if status != 200:
            raise RuntimeError(f"{path} answered {status}")
        left = size = int(found["content-length"])
        while left:
            read = await self._reader.read(min(left, CHUNK))
            if not read:
                raise RuntimeError(f"{path} ended {left} bytes early")
            left -= len(read)
        return size

    async def stream(self, path: str) -> None:
        """Begin an event stream; raises RuntimeError where it is none. `event` reads on."""
        self._begin("GET", path, 0, {"accept": "text/event-stream"})
        await self._writer.drain()
        status, found = await self._head()
        if status != 200 or not found.get("content-type", "").startswith("text/event-stream"):
            raise RuntimeError(f"{path} answered {status} {found.get('content-type')}")

    async def event(self) -> str:
        """The data of the next event, whose `data:` is one line."""
        while line := await self._reader.readline():
            if line.startswith(b"data:"):
                return line[5:].strip().decode()
        raise RuntimeError("the stream ended")

    def _begin(self, method: str, path: str, size: int, headers: Mapping[str, str]) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
        if size or method in ("POST", "PUT"):
            lines.append(f"content-length: {size}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def _head(self) -> tuple[int, dict[str, str]]:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}
