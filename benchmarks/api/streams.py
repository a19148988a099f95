"""Many open event streams: how long until an event has reached all of them, and what they cost."""

import asyncio
import time
from dataclasses import dataclass

from benchmarks.api.connection import Connection
from benchmarks.api.servers import Server


@dataclass(frozen=True)
class Streams:
    """Seconds to open all and to hear an event on each; what the server took for them."""

    count: int
    open_seconds: float
    reached: int
    median_seconds: float
    last_seconds: float
    growth_mib: float
    poll_ms: float
    """Of one poll of a job while all are open."""


async def listen(server: Server, jobs: list[str], count: int, timeout: float) -> Streams:
    """Open `count` streams over `jobs`, cancel those jobs, and wait until every stream has said so."""
    with server.watched() as growth:
        began = time.monotonic()
        connections = []
        for number in range(count):
            connection = await Connection.open(server.port)
            await connection.stream(f"/v1/jobs/{jobs[number % len(jobs)]}/events")
            connections.append(connection)
        opened = time.monotonic() - began
        asking = await Connection.open(server.port)
        began = time.monotonic()
        await asking.ask("GET", f"/v1/jobs/{jobs[0]}")
        poll = time.monotonic() - began
        began = time.monotonic()
        heard = [asyncio.create_task(_cancelled(connection)) for connection in connections]
        for job in jobs:
            answer = await asking.ask("POST", f"/v1/jobs/{job}/cancel")
            if answer.status != 202:
                raise RuntimeError(f"cancelling answered {answer.status}")
        done, late = await asyncio.wait(heard, timeout=timeout)
        for task in late:
            task.cancel()
    for connection in (*connections, asking):
        connection.close()
    times = sorted(task.result() - began for task in done)
    if not times:
        raise RuntimeError("no stream heard anything")
    return Streams(count, opened, len(times), times[len(times) // 2], times[-1], growth.mib, poll * 1e3)


async def _cancelled(connection: Connection) -> float:
    """When the stream says that its job was cancelled."""
    while "cancelled" not in await connection.event():
        pass
    return time.monotonic()
