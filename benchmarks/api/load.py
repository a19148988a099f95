"""Submitting and polling: as many requests as a few clients get answered, ours and the bare server's in turn."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.api.connection import Connection

CLIENTS = 8
Request = Callable[[Connection], Awaitable[int]]
"""Sends one request over a connection; the status of its answer."""


@dataclass
class Timed:
    """Latencies in seconds of the requests of all rounds."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1e3


async def in_turn(
    targets: dict[str, tuple[int, Request]], status: int, rounds: int, seconds: float
) -> dict[str, Timed]:
    """Closed loops of CLIENTS connections, one target after the other in every round, so that a neighbour hits all alike.

    Raises RuntimeError for an answer with another status.
    """
    found = {name: Timed() for name in targets}
    for turn in range(rounds + 1):
        for name, (port, request) in targets.items():
            # Anew every time: a server closes those that were idle while the others had their turn.
            connections = [await Connection.open(port) for _ in range(CLIENTS)]
            until = time.monotonic() + (seconds if turn else 1.0)
            began = time.monotonic()
            loops = [_loop(connection, request, status, until) for connection in connections]
            latencies = [latency for of_one in await asyncio.gather(*loops) for latency in of_one]
            if turn:  # The first round only warms up.
                found[name].latencies += latencies
                found[name].seconds += time.monotonic() - began
            for connection in connections:
                connection.close()
    return found


async def _loop(connection: Connection, request: Request, status: int, until: float) -> list[float]:
    latencies = []
    while (began := time.monotonic()) < until:
        answered = await request(connection)
        if answered != status:
            raise RuntimeError(f"a request was answered {answered}, not {status}")
        latencies.append(time.monotonic() - began)
    return latencies
