"""Give freed memory back to the system. For processes that keep allocating and freeing large blocks: engines, and the API."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of malloc.h


def return_blocks(size: int) -> None:
    """From now on, a block of `size` bytes or more goes back to the system as soon as it is freed.

    glibc raises its bound for such blocks, up to 32 MiB, whenever one of them is freed; from then on blocks below it are taken
    from a heap that shrinks only at its end, and what is small and stays lands between them. A job of many layers held several
    times what it needed, and the API the pieces of uploads (docs/results/memory.md).
    """
    # No other C library has it.
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size)


def trim() -> None:
    """Give the system all whole pages that are free anywhere in the heap."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
