"""Server-sent events, from bytes in whatever pieces they come (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

LONGEST = 2**24
"""Bytes of one event; a stream that goes on for longer without an end of line is none."""


class TooLongError(ValueError):
    """What comes is no stream of events."""


@dataclass
class Parser:
    """Of one connection: `feed` it bytes, get the events that are complete."""

    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The `data` of every event that ends in this chunk. Comments, and fields of other names, are left out."""
        text = self._rest + chunk
        if len(text) > LONGEST:
            raise TooLongError(f"more than {LONGEST} bytes without an end of line")
        # A line ends with CR, LF or both; a CR at the end of a chunk waits for what follows it.
        lines = text.replace(b"\r\n", b"\n").split(b"\n") if not text.endswith(b"\r") else [text]
        self._rest = lines.pop()
        for line in lines:
            for part in line.split(b"\r"):
                yield from self._line(part.decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[str]:
        if not line:
            if self._data:
                yield "\n".join(self._data)
            self._data.clear()
            return
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
