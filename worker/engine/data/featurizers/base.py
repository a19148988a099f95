"""The common interface of all featurizers: what they receive of a row, and what they return."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from api_schemas.errors import SecateurError
from checkpoints.data.clip_flaws import Flaw

TARGETS = "targets"
"""Stands beside inputs where these are made together with what is asked of them: masked words, answers to questions."""
SPANS = "spans"
"""Beside them, where in its text each token is; no input either."""


@dataclass(frozen=True)
class Value:
    """One row's value of the input column; pairs of texts are tuples. `from_files`: its path comes from our own listing."""

    value: Any
    from_files: bool
    asked: Any = None
    """The label column's, where that is looked for in the input."""


def content(cell: Value) -> Hashable:
    """What the row holds, to be compared: bytes, a text, words or a pair. None where there is nothing to be read."""
    value = cell.value
    if isinstance(value, Mapping):
        if value.get("bytes") or not cell.from_files or not value.get("path"):
            return value.get("bytes")
        try:
            return Path(value["path"]).read_bytes()
        except OSError:
            return None  # Decoding says what is wrong with it.
    return tuple(value) if isinstance(value, list | tuple) else str(value)


class Featurizer(Protocol):
    """Rows in, inputs out; every row by itself, so that neither threads nor batches change a bit of them."""

    pad_value: float
    """What stands in place of audio that is not there; 0 where inputs are not filled up."""
    flaws: list[Flaw]
    """Flaws of decoded recordings. Threads add to it; the code that counts them empties it."""

    def decode(self, value: Value, where: str) -> Any:
        """One row's value, ready for `__call__`; threads call it. `where`: split and row, for errors."""

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """By the model's keywords, TARGETS and SPANS: an array [B, …], or a list of B arrays that differ in length.

        Of a question with a long context there is more than one row, and then all are lists.
        """


def file_bytes(cell: Value, where: str, undecodable: Callable[[str, str], SecateurError]) -> bytes:
    """Bytes inside the row; a path is followed only where it comes from our own listing of the folder."""
    value = cell.value
    if value is not None and value["bytes"]:
        return bytes(value["bytes"])
    if cell.from_files and value is not None and value["path"]:
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise undecodable(where, f"{Path(value['path']).name}: {error.strerror}") from None
    raise undecodable(where, "the row has no embedded bytes; the shard must contain the file's bytes, not a path")
