"""Recordings or images whose rows are in metadata files beside them: `metadata.csv`, `metadata.jsonl`, `metadata.parquet`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checkpoints.data.layout import METADATA_NAMES, Layout

FILE_NAME = "file_name"
"""The column that says whose row it is."""


def metadata_of(layout: Layout) -> dict[str, tuple[Path, ...]]:
    """The metadata files by split."""
    found = {
        split: tuple(path for path in paths if path.name in METADATA_NAMES) for split, paths in layout.files.items()
    }
    return {split: paths for split, paths in found.items() if paths}


def described_files(
    metadata: Path, folder: Path, rows: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(file, the other columns) of every row of a metadata file.

    Raises ValueError where a row names no file, or one that is not in the data folder.
    """
    for row in rows:
        if FILE_NAME not in row:
            raise ValueError(f"{metadata} has no column {FILE_NAME}, which must name the file of each row.")
        file = metadata.parent / str(row[FILE_NAME])
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise ValueError(f"{metadata} refers to {file}, which does not exist in {folder}.")
        yield file, {name: value for name, value in row.items() if name != FILE_NAME}
