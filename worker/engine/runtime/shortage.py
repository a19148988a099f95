"""Telling that memory or the scratch disk ran out, by whatever exception a library says it with.

Without torch, so that it can be asked before torch is imported; torch's exceptions are known by their names and texts.
"""

import errno
from collections.abc import Iterator

from api_schemas.errors import ErrorCode

_NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In the text of a RuntimeError: of torch's CPU allocator, of the CUDA runtime, of cuBLAS."""
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
"""In the text of any exception: safetensors, torch and child processes have types of their own for what the system said."""


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
