"""One value of a row at a time: embedded files, texts, words. Errors name the split and row of an unusable value."""

import re
from typing import Any

import pyarrow as pa

from checkpoints.data.media import MAX_CHARACTERS
from store.uploads.inspection.dataset_schema import schema_error

MAX_FILE_BYTES = 256 * 2**20
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
"""NUL and halves of surrogate pairs: neither every database nor JSON in UTF-8 can hold them."""


def file_bytes(value: Any) -> bytes | None:
    """The bytes inside an Arrow struct, or alone."""
    # A null struct has no bytes either, whatever lies in its child array.
    if not value.is_valid:
        return None
    data: bytes | None = (value["bytes"] if pa.types.is_struct(value.type) else value).as_py()
    return data


def embedded(value: Any, what: str, where: str) -> bytes:
    """The bytes of a file, as Arrow has them. `what`: clip or image."""
    data = file_bytes(value)
    if not data:
        raise schema_error(
            f"the {what} at {where} has no embedded bytes; the shard must contain the file's bytes, not a path", where
        )
    if len(data) > MAX_FILE_BYTES:
        raise schema_error(f"the {what} at {where} has {len(data)} bytes; the maximum is {MAX_FILE_BYTES}", where)
    return data


def text(value: Any, where: str) -> str:
    """A text that is not empty, within bounds."""
    if not value:
        raise schema_error(f"the text at {where} is missing or empty", where)
    return bounded_text(value, where)


def bounded_text(value: Any, where: str) -> str:
    """A text within bounds; an empty one where it is null."""
    text = "" if value is None else value
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise schema_error(f"the text at {where} is longer than {MAX_CHARACTERS} characters", where)
    return text


def words(value: Any, where: str) -> list[str]:
    """A list of words, at least one, none empty."""
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise schema_error(f"the words at {where} are missing, or one of them is empty", where)
    if sum(map(len, value)) > MAX_CHARACTERS:
        raise schema_error(f"the words at {where} have more than {MAX_CHARACTERS} characters", where)
    return value
