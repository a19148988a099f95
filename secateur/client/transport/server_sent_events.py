"""Server-sent events, parsed from byte chunks of any size (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ENDS = re.compile(rb"\r\n|\n|\r")
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
        # A line ends with CR, LF or both: a CR at the very end waits for what follows it.
        held = b"\r" if text.endswith(b"\r") else b""
        *lines, rest = _ENDS.split(text.removesuffix(held))
        self._rest = rest + held
        for line in lines:
            yield from self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[str]:
        if not line:
            if self._data:
                yield "\n".join(self._data)
            self._data.clear()
            return
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
