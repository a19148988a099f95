"""One file judged while it arrives: what can be known of it alone, before it is kept."""

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.architectures import is_silent
from checkpoints.config.checkpoint_config import read_config
from checkpoints.describe import MAX_INDEX_BYTES
from checkpoints.file_names import CONFIG
from checkpoints.files.preprocessor_files import MAX_VOCABULARY_BYTES, VOCABULARY_FILES
from checkpoints.files.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES, header_length, parse_header
from checkpoints.files.shards import INDEX_NAME
from store.uploads.inspection.file_kinds import MAGIC_BYTES, refuse_magic, refused
from store.uploads.inspection.models.finite_weights import FiniteWeights
from store.uploads.inspection.models.folder import about, check_json

PARQUET_MAGIC = b"PAR1"
QUICK_BYTES = 64 * 2**10
"""Of JSON, which are parsed in a millisecond or two."""
TEXT_SUFFIXES = (".jinja", ".json", ".md", ".txt")


class IncomingFile:
    """Checks of one file of a known size: `feed` it every chunk in order, then `finish`.

    Both raise SecateurError. It holds what it judges and no more: text whole, of safetensors the header, of parquet the
    two ends. Weights are looked at as they pass.
    """

    def __init__(self, name: str, size: int, max_json_bytes: int) -> None:
        self._name = name
        self._size = size
        own = {INDEX_NAME: MAX_INDEX_BYTES} | dict.fromkeys(VOCABULARY_FILES, MAX_VOCABULARY_BYTES)
        self._max_text = own.get(name, max_json_bytes)
        self._head = bytearray()
        self._tail = b""
        self._magic_seen = False
        self._header_seen = False
        self._received = 0
        self._weights: FiniteWeights | None = None
        if name.endswith(TEXT_SUFFIXES):
            self._limit = size
            if size > self._max_text:
                detail = f"{name} has {size} bytes; the maximum for a file of this kind is {self._max_text}."
                raise SecateurError(ErrorCode.REQUEST_TOO_LARGE, detail)
        else:
            self._limit = LENGTH_BYTES + MAX_HEADER_BYTES if name.endswith(".safetensors") else MAGIC_BYTES

    def parses(self, size: int) -> bool:
        """Whether taking the next `size` bytes, or with 0 finishing, takes long enough to keep an event loop from others."""
        if size == 0:
            return self._name.endswith(".json") and self._size > QUICK_BYTES
        comes = self._name.endswith(".safetensors") and not self._header_seen
        return comes and len(self._head) + size >= min(self._limit, QUICK_BYTES)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Refuses as soon as it can: a pickle at its first bytes, weights at the end of their header."""
        begin, self._received = self._received, self._received + len(chunk)
        self._tail = (self._tail + chunk[-len(PARQUET_MAGIC) :])[-len(PARQUET_MAGIC) :]
        if len(self._head) < self._limit:
            self._head += chunk[: self._limit - len(self._head)]
            if not self._magic_seen and len(self._head) >= min(MAGIC_BYTES, self._size):
                self._check_magic()
            if self._magic_seen and len(self._head) >= self._limit:
                self._check_header()
        if self._weights is not None:
            with about(self._name):
                self._weights.feed(chunk[max(0, self._limit - begin) :])

    def finish(self) -> None:
        """The file is whole: judge what was kept of it."""
        head = bytes(self._head)
        if not self._magic_seen:
            self._check_magic()
        self._check_header()
        if self._name.endswith(".json"):
            value = check_json(self._name, head, self._max_text)
            # Before the weights are sent; where they say which class it is, they are waited for.
            if self._name == CONFIG and not is_silent(value):
                read_config(value)
        elif self._name.endswith(".parquet"):
            if not (head.startswith(PARQUET_MAGIC) and self._tail == PARQUET_MAGIC):
                raise refused(self._name, "it does not start and end like a parquet file")
        elif self._name.endswith(TEXT_SUFFIXES) and not _is_text(head):
            raise refused(self._name, "it is not UTF-8 text")

    def _check_magic(self) -> None:
        self._magic_seen = True
        refuse_magic(self._name, bytes(self._head[:MAGIC_BYTES]))
        if self._name.endswith(".safetensors"):
            with about(self._name):
                # From here on only the header is kept, not all that it might have been.
                self._limit = LENGTH_BYTES + header_length(bytes(self._head), self._size)

    def _check_header(self) -> None:
        if self._name.endswith(".safetensors") and not self._header_seen:
            self._header_seen = True
            with about(self._name):
                self._weights = FiniteWeights(parse_header(bytes(self._head), self._size))


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False
