"""Memory: how much this process has needed, how many samples share a pass under a limit, and detecting that it ran out.

Does not import torch, so that `shortage` can be used before torch is imported; torch's exceptions are recognised by their names
and texts.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from api_schemas.errors import ErrorCode
from api_schemas.freed_memory import return_blocks, trim
from api_schemas.results.metrics import Memory

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")
LOOK_SECONDS = 0.1
RETURNED = 4 << 20
"""Bytes of a block of memory from which on the system has it back as soon as it is free."""
SLACK, TRIM_SECONDS = 1 << 28, 1.0
"""By how much the memory held may grow before the system is given what is free in between, and how often at most."""
_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In the text of a RuntimeError: of torch's CPU allocator, of the CUDA runtime, of cuBLAS."""
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
"""In the text of any exception: safetensors, torch and child processes have types of their own for what the system said."""


def peak_memory(device: "torch.device") -> Memory:
    """The peaks, in bytes: of the host's since it was first asked for."""
    import torch

    allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Memory(host=_watch().peak(), device=allocated)


def held_bytes(status: Path) -> int | None:
    """Memory that the kernel cannot reclaim, from a `status` of /proc: anonymous and shared pages. Pages of mapped files, which
    the kernel can read again, are left out: large tensors are there (mapped.py). None if there is no such file."""
    try:
        kinds = dict(line.split(":") for line in status.read_text().splitlines())
        return 1024 * sum(int(kinds[kind].split()[0]) for kind in ("RssAnon", "RssShmem"))
    except (OSError, KeyError, ValueError):
        return None


def return_freed_memory() -> None:
    """Large blocks of memory go back to the system when they are freed; what is small and free, when much has come together."""
    return_blocks(RETURNED)


class MemoryWatch:
    """The most that this process has held: the kernel keeps no such number of its own, so a thread looks again and again. Where
    it sees that much more is held than before, it trims the heap."""

    def __init__(self, status: Path = _STATUS, trim: Callable[[], None] = trim) -> None:
        self._status, self._peak, self._trim = status, held_bytes(status), trim
        threading.Thread(target=self._look, daemon=True, name="memory-watch").start()

    def peak(self) -> int | None:
        """So far, in bytes."""
        self._held()
        return self._peak

    def _held(self) -> int | None:
        now = held_bytes(self._status)
        if now is not None:
            self._peak = max(self._peak or 0, now)
        return now

    def _look(self) -> None:
        level, again = 0, 0.0
        while (now := self._held()) is not None:
            if now > level + SLACK and time.monotonic() >= again:
                self._trim()
                level, again = self._held() or 0, time.monotonic() + TRIM_SECONDS
            time.sleep(LOOK_SECONDS)


@cache
def _watch() -> MemoryWatch:
    """This process's, from the first time that it is asked for; not before it has forked for the last time."""
    return MemoryWatch()


def capped_batch_size(samples: int, microbatch: int | None) -> int:
    """`samples`, or the bound on one pass through the model where there is one and it is lower.

    A bound changes how much memory a job takes, not what it computes, but for the order of sums: results agree to float
    tolerance, and with the same bound they are the same bits. Not bounded are the batches whose size is the point (latency) and
    those that are small and on the CPU whatever the device (the checks of a packaged step and of its exports).
    """
    return samples if microbatch is None else min(samples, microbatch)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, as a traceback shows them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _code(error: BaseException) -> ErrorCode | None:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in _NO_SPACE):
        return ErrorCode.SCRATCH_FULL
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or number == errno.ENOMEM:
        return ErrorCode.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY):
        return ErrorCode.OUT_OF_MEMORY
    return None


def shortage(error: BaseException) -> tuple[ErrorCode, BaseException] | None:
    """OUT_OF_MEMORY or SCRATCH_FULL with the exception that says so, be it `error` or what led to it; else None."""
    return next(((code, link) for link in _chain(error) if (code := _code(link)) is not None), None)
