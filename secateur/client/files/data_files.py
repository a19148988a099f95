"""A user's data as parquet shards: folders, single files, datasets of the `datasets` library."""

import importlib
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from api_schemas import errors as contract
from api_schemas.spec.inputs import Columns, Splits
from checkpoints.data.layout import Files, Layout, find_layout, layout_of_table
from checkpoints.data.split_names import lone_split, split_of
from secateur.client.files.uploads import LocalFile
from secateur.client.progress import ProgressCallback, tell
from secateur.client.transport.backend import Backend
from secateur.errors import InvalidRequest, MissingDependency

_SHARD_BYTES = 2**29
_BATCH_ROWS = 256


@asynccontextmanager
async def data_files(
    backend: Backend, data: Any, splits: Splits, columns: Columns, progress: ProgressCallback | None
) -> AsyncGenerator[list[LocalFile]]:
    """The shards to upload. What has to be packed for it lies in a temporary folder until the end of the block.

    `columns`: which are what.

    Raises InvalidRequest, or MissingDependency where packing needs the extra `data`.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        table = layout_of_table(path) if path.is_file() else None
        if path.is_file() and table is None:
            yield [_single(path)]
            return
        layout = table or _layout(path, splits)
        if layout.kind is Files.PARQUET:
            yield _shards(layout)
            return
        with tempfile.TemporaryDirectory(prefix="secateur-data-") as folder:
            out = Path(folder)
            await _told(
                backend, _packing(layout, path, out, columns), sum(map(len, layout.files.values())), "files", progress
            )
            yield _of(out)
    elif (hasattr(data, "with_format") and hasattr(data, "features")) or isinstance(data, Mapping):
        with tempfile.TemporaryDirectory(prefix="secateur-data-") as folder:
            out = Path(folder)
            by_split = _by_split(data)
            rows = sum(len(dataset) for dataset in by_split.values())
            await _told(backend, _writing(by_split, out), rows, "rows", progress)
            yield _of(out)
    else:
        usable = "a folder, a parquet, csv or jsonl file, a datasets.Dataset or a DatasetDict"
        detail = f"A {type(data).__name__} is not data: give {usable}."
        raise _unusable(detail, "dataset_schema")


async def _told(
    backend: Backend, steps: Iterator[int], total: int, unit: str, progress: ProgressCallback | None
) -> None:
    """Run through `steps`, each of which says how much it has done."""
    done = 0
    try:
        while taken := await backend.work(lambda: next(steps, 0)):
            done += taken
            tell(progress, "packing", done, total, unit)
    except contract.SecateurError as error:
        raise _of_contract(error) from None
    except ValueError as error:  # pyarrow's own errors are such.
        raise _unusable(f"The data cannot be packed: {error}", "dataset_schema") from error


def _single(path: Path) -> LocalFile:
    if path.suffix != ".parquet":
        detail = f"{path} is not a data file. Give a folder, a parquet, csv or jsonl file, a datasets.Dataset or a DatasetDict."
        raise _unusable(detail, "file_type_refused")
    split = split_of(path.name)
    return LocalFile(path.name if lone_split(split) == split else "train.parquet", path)


def _layout(folder: Path, splits: Splits) -> Layout:
    if not folder.is_dir():
        raise _unusable(f"There is no file or folder {folder}.", "file_missing")
    try:
        return find_layout(folder, splits)
    except contract.SecateurError as error:
        raise _of_contract(error) from None


def _shards(layout: Layout) -> list[LocalFile]:
    """As they are; renamed where a folder and not the name said the split, or where two have the same name."""
    files: dict[str, LocalFile] = {}
    for split, paths in layout.files.items():
        for path in paths:
            name = path.name if split_of(path.name) == split else f"{split}-{path.name}"
            if name in files:
                name = f"{split}-{len(files):05d}.parquet"
            files[name] = LocalFile(name, path)
    return list(files.values())


def _packing(layout: Layout, folder: Path, out: Path, columns: Columns) -> Iterator[int]:
    try:
        packing = importlib.import_module("secateur.client.files.packing")
    except ImportError as error:
        what = f"Packing {folder} needs {error.name}: pip install 'secateur[data]'. Parquet shards need no packing."
        raise MissingDependency(what, code="missing_dependency") from error
    steps: Iterator[int] = packing.packing(layout, folder, out, columns)
    return steps


def _by_split(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        found = {str(name): each for name, each in data.items()}
    else:
        found = {lone_split(str(getattr(data, "split", None))): data}
    for name, each in found.items():
        if not hasattr(each, "with_format") or not hasattr(each, "__len__"):
            detail = f"Split {name} is a {type(each).__name__}; a datasets.Dataset is needed, with all its rows on this machine."
            raise _unusable(detail, "dataset_schema")
    return found


def _writing(by_split: Mapping[str, Any], out: Path) -> Iterator[int]:
    """Write datasets as shards with audio and images inside; yields the rows of every batch."""
    parquet = importlib.import_module("pyarrow.parquet")
    table_module = importlib.import_module("datasets.table")
    for split, dataset in by_split.items():
        yield from _writing_split(split, dataset, out, parquet, table_module)


def _writing_split(split: str, dataset: Any, out: Path, parquet: ModuleType, tables: ModuleType) -> Iterator[int]:
    schema = dataset.features.arrow_schema
    shard, size, writer = 0, 0, None
    try:
        for batch in dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            # Rows may name files of this machine; their bytes have to travel.
            table = tables.embed_table_storage(batch.cast(schema))
            if writer is None:
                writer = parquet.ParquetWriter(out / f"{split}-{shard:05d}.parquet", schema)
            writer.write_table(table)
            size += table.nbytes
            if size > _SHARD_BYTES:
                writer.close()
                shard, size, writer = shard + 1, 0, None
            yield table.num_rows
    finally:
        if writer is not None:
            writer.close()


def _of(folder: Path) -> list[LocalFile]:
    files = [LocalFile(path.name, path) for path in sorted(folder.iterdir())]
    if not files:
        raise _unusable("The data has no rows.", "dataset_empty")
    return files


def _of_contract(error: contract.SecateurError) -> InvalidRequest:
    return InvalidRequest(error.detail, code=error.code.value, items=error.errors)


def _unusable(detail: str, code: str) -> InvalidRequest:
    return InvalidRequest(detail, code=code)
