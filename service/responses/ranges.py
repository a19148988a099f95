"""Conditional and partial requests (RFC 9110, sections 13 and 14): which bytes of a stored file to send, if any."""

import re
from dataclasses import dataclass

from api_schemas.errors import ErrorCode, SecateurError

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Bytes [start, end) of `size`. `partial` where a range was asked for and is granted."""

    start: int
    end: int
    size: int
    partial: bool

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class RangeError(SecateurError):
    """The range lies outside the file; `size` goes into Content-Range."""

    def __init__(self, size: int) -> None:
        super().__init__(ErrorCode.RANGE_NOT_SATISFIABLE, f"The range lies outside the file, which has {size} bytes.")
        self.size = size


def select(size: int, etag: str, range_header: str | None, if_range: str | None) -> Span:
    """What to send. Several ranges, or a header that is none, mean the whole file, as the RFC allows. Raises RangeError."""
    whole = Span(0, size, size, partial=False)
    match = _RANGE.fullmatch(range_header) if range_header else None
    if match is None or (if_range is not None and if_range.strip() != etag):
        return whole
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return whole
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return whole
    if start >= end:
        raise RangeError(size)
    return Span(start, end, size, partial=True)


def matches(etag: str, if_none_match: str | None) -> bool:
    """Whether a client already has the representation `etag` names (weak comparison)."""
    if if_none_match is None:
        return False
    given = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in given or etag.removeprefix("W/") in given
