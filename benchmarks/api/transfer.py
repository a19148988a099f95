"""Large files up and down: seconds beside the bare server's, and how far the API's memory grows."""

import base64
import hashlib
import json
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cached_property

from benchmarks.api.connection import CHUNK, Connection
from benchmarks.api.servers import Server


@dataclass(frozen=True)
class Weights:
    """A safetensors file of one large tensor, made as it is sent: nothing of it is kept here."""

    size: int

    @property
    def header(self) -> bytes:
        cells = (self.size - 4096) // 4
        text = json.dumps({"weight": {"dtype": "F32", "shape": [cells], "data_offsets": [0, 4 * cells]}}).encode()
        padded = text + b" " * (4096 - 8 - len(text))
        return struct.pack("<Q", len(padded)) + padded

    def chunks(self) -> Iterator[bytes]:
        """All bytes, in order. The numbers are finite and not all alike."""
        yield self.header
        left = self.size - 4096
        block = b"".join(struct.pack("<f", (number % 1000) * 1e-3) for number in range(CHUNK // 4))
        while left:
            yield block[:left]
            left -= min(left, CHUNK)

    async def sent(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            yield chunk

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class Transfer:
    """One file, one way."""

    seconds: float
    growth_mib: float


async def upload(server: Server, path: str, weights: Weights) -> Transfer:
    """PUT the file. Raises RuntimeError where it is not taken."""
    connection = await Connection.open(server.port)
    with server.watched() as growth:
        began = time.monotonic()
        answer = await connection.put(path, weights.sent(), weights.size)
        seconds = time.monotonic() - began
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
    return Transfer(seconds, growth.mib)


async def upload_in_pieces(server: Server, path: str, weights: Weights) -> Transfer:
    """The file as a resumable upload of one request; `path` is where its model's uploads begin. Raises RuntimeError."""
    name = base64.b64encode(b"model.safetensors").decode()
    connection = await Connection.open(server.port)
    begun = await connection.ask(
        "POST", path, tus_resumable="1.0.0", upload_length=str(weights.size), upload_metadata=f"filename {name}"
    )
    kind = "application/offset+octet-stream"
    headers = {"tus-resumable": "1.0.0", "content-type": kind, "upload-offset": "0"}
    with server.watched() as growth:
        began = time.monotonic()
        answer = await connection.send("PATCH", begun.headers["location"], weights.sent(), weights.size, headers)
        seconds = time.monotonic() - began
    connection.close()
    if answer.status != 204:
        raise RuntimeError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
    return Transfer(seconds, growth.mib)


async def download(server: Server, path: str, size: int) -> Transfer:
    """GET the file. Raises RuntimeError where it is not whole."""
    connection = await Connection.open(server.port)
    with server.watched() as growth:
        began = time.monotonic()
        found = await connection.download(path)
        seconds = time.monotonic() - began
    connection.close()
    if found != size:
        raise RuntimeError(f"{path} has {found} bytes, not {size}")
    return Transfer(seconds, growth.mib)
