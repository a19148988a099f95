"""Detects that the server was told to stop while it still waits for open responses."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_shutdown(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running event loop as soon as a signal tells the process to end, and when the block ends.

    The server's own handlers, in place before the application starts, are called as before.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def told(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # Signals are the main thread's; elsewhere (in tests) the end of the block has to do.
    taken = [
        number
        for number, handler in before.items()
        if threading.current_thread() is threading.main_thread() and callable(handler)
    ]
    for number in taken:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        stop()
