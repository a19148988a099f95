"""What the children of an attempt write to standard error: the end is kept in memory, the rest is sent to the job's log."""

import codecs
import threading
from collections import deque
from typing import IO, NamedTuple

TAIL_BYTES = 16 * 2**10
PIECE_BYTES = 256 * 2**10


class Piece(NamedTuple):
    """Text whose first byte is number `start` of the attempt's log, and the number after its last."""

    start: int
    end: int
    text: str


class JobLog:
    """For several writers and one reader. Holds at most `max_bytes` that were not taken yet, the newest."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._waiting: deque[Piece] = deque()
        self._tail = ""
        self._end = 0
        self._lock = threading.Lock()

    def copy(self, pipe: IO[bytes]) -> None:
        """Until the stream ends."""
        # A long line comes in parts, and a part may end in the middle of a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while line := pipe.readline(TAIL_BYTES):
            self.write(decoder.decode(line))
        self.write(decoder.decode(b"", final=True))

    def write(self, text: str) -> None:
        """Add a line, or a part of one."""
        if not text:
            return
        text = text.replace("\x00", "\ufffd")  # PostgreSQL stores every character but this one.
        with self._lock:
            piece = Piece(self._end, self._end + len(text.encode()), text)
            self._end = piece.end
            self._waiting.append(piece)
            self._tail = (self._tail + text)[-TAIL_BYTES:]
            while self._end - self._waiting[0].end >= self.max_bytes:
                self._waiting.popleft()

    def tail(self, lines: int) -> str:
        """The last lines."""
        with self._lock:
            return "\n".join(self._tail.splitlines()[-lines:])

    def next_piece(self) -> Piece | None:
        """The oldest text that was not `taken`, as much as one write should carry; None where there is none."""
        with self._lock:
            if not self._waiting:
                return None
            start, end = self._waiting[0].start, self._waiting[0].start
            texts: list[str] = []
            for piece in self._waiting:
                if texts and piece.end - start > PIECE_BYTES:
                    break
                texts.append(piece.text)
                end = piece.end
            return Piece(start, end, "".join(texts))

    def taken(self, end: int) -> None:
        """All before byte `end` is safe elsewhere."""
        with self._lock:
            while self._waiting and self._waiting[0].end <= end:
                self._waiting.popleft()
