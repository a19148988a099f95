"""SHA-256 of files of any size, computed in slices, so that other work can run in between."""

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

from secateur.client.transport.backend import Backend

SLICE = 32 * 2**20
BLOCK = 2**20


class Digest:
    """Of the first bytes of a file, further with every `feed`."""

    def __init__(self) -> None:
        self._running = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes) -> None:
        self._running.update(data)
        self.size += len(data)

    def feed(self, path: Path, most: int = SLICE) -> int:
        """Take up to `most` bytes more of the file; returns how many there were."""
        taken = 0
        with path.open("rb") as file:
            file.seek(self.size)
            while taken < most and (block := file.read(min(BLOCK, most - taken))):
                self.update(block)
                taken += len(block)
        return taken

    @property
    def hex(self) -> str:
        return self._running.hexdigest()


async def digested(backend: Backend, path: Path, digest: Digest) -> AsyncGenerator[int]:
    """Feed a whole file to `digest`, saying after every slice how many bytes it was."""
    while taken := await backend.work(lambda: digest.feed(path)):
        yield taken
