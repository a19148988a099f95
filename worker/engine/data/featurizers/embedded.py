"""Files inside rows: a clip's or an image's bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_schemas.errors import SecateurError


@dataclass(frozen=True)
class Value:
    """One row's value of the input column. `from_files`: its path comes from our own listing of the data folder."""

    value: Any
    from_files: bool


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
    raise undecodable(where, "the row has no embedded bytes; write them into the shard, not a path")
