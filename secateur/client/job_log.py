"""The engine's log of a job, line by line."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from secateur.client.event_stream import POLL
from secateur.client.transport.connection import Connection


async def lines(
    connection: Connection, path: str, attempt: int | None, ended: Callable[[], Awaitable[bool]] | None
) -> AsyncGenerator[str]:
    """What `attempt` wrote, by default the newest; with `ended`, which asks whether the job has, also what is still to come, of
    later attempts too."""
    wanted, offset, rest, over = attempt, 0, "", ended is None
    while True:
        params = {"offset": offset} | ({} if wanted is None else {"attempt": wanted})
        answer = await connection.call("GET", path, params=params)
        *whole, rest = (rest + answer.text).split("\n")
        for line in whole:
            yield line
        offset = int(answer.headers["log-next-offset"])
        if answer.text:
            wanted = int(answer.headers["log-attempt"])
            continue
        known = [int(each) for each in answer.headers.get("log-attempts", "").split(",") if each]
        later = [each for each in known if wanted is not None and each > wanted]
        if ended is not None and attempt is None and later:
            wanted, offset = later[0], 0
        elif over:
            break
        elif ended is not None:
            # What was written between the last look and the end is still to be read.
            over = await ended()
            if not over:
                await connection.backend.sleep(POLL)
    if rest:
        yield rest
