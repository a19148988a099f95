"""The files of a data folder as Arrow batches of the columns that are read, whatever their format."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api_schemas.spec.inputs import Columns
from checkpoints.data.answers import START, TEXT, in_lists
from checkpoints.data.arrow_types import arrow_type
from checkpoints.data.described_files import FILE_NAME, described_files, metadata_of
from checkpoints.data.layout import Files, Layout
from checkpoints.data.shards.columns import Shard
from checkpoints.data.shards.types import declared_features, shard_column
from checkpoints.data.text_rows import Cells, column_cells, is_text_file, read_rows

BATCH_ROWS = 64
"""Few enough that as many recordings are small in memory."""
WRITTEN_ROWS = 1024
ANSWERS = pa.struct([(TEXT, pa.list_(pa.string())), (START, pa.list_(pa.int64()))])
_ARROW = {
    Cells.TEXT: pa.string(),
    Cells.TEXTS: pa.list_(pa.string()),
    Cells.ANSWERS: ANSWERS,
    Cells.INTEGER: pa.int64(),
    Cells.NUMBER: pa.float64(),
    Cells.TRUTH: pa.bool_(),
    Cells.DATE: pa.timestamp("us"),
}
EMBEDDED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class ShardFile:
    """A parquet file, or an Arrow stream."""

    path: Path
    split: str
    silent: frozenset[str] = frozenset()
    """Columns whose type is not the other shards', and that say nothing here: they are read as null."""

    @property
    def _stream(self) -> bool:
        return self.path.suffix == ".arrow"

    def shard(self) -> Shard:
        """Its columns."""
        schema = self.schema()
        features = declared_features(schema.metadata)
        columns = {
            name: shard_column(arrow_type(schema.field(name).type, pa.types), features.get(name))
            for name in schema.names
        }
        if len(columns) != len(schema.names):
            raise ValueError(f"{self.path.name} has two columns of the same name")
        return Shard(self.path.name, self.split, columns)

    def schema(self) -> pa.Schema:
        """Raises pyarrow's errors where the file is something else."""
        if not self._stream:
            return pq.read_schema(self.path)
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema

    def has_rows(self) -> bool:
        """Whether there is a first one."""
        if not self._stream:
            return bool(pq.read_metadata(self.path).num_rows)
        return any(batch.num_rows for batch in self._streamed())

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """All rows as columns of `schema`, a few at a time; null in those that the file is without."""
        there = [name for name in schema.names if name in self.schema().names and name not in self.silent]
        for batch in self._read(there):
            arrays = [
                _cast(batch.column(field.name), field.type)
                if field.name in there
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def values(self, column: str) -> Iterator[Any]:
        """Of one column, in order."""
        return (value for batch in self._read([column]) for value in batch.column(column).to_pylist())

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Batches with these columns at least, and the number of rows where these are none."""
        if self._stream:
            return self._streamed()
        return iter(pq.ParquetFile(self.path).iter_batches(BATCH_ROWS, columns=columns))

    def _streamed(self) -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)


def shard_files(layout: Layout, folder: Path, columns: Columns, scratch: Path) -> list[ShardFile]:
    """A file for every file of rows; of texts, and of what metadata files describe, rewritten as parquet in `scratch`.

    Raises ValueError, or pyarrow's errors.
    """
    if layout.kind in (Files.PARQUET, Files.ARROW):
        return [ShardFile(path, split) for split, paths in layout.files.items() for path in paths]
    if layout.metadata:
        return list(_described(layout, folder, columns, scratch))
    return list(_texts(layout, columns, scratch))


def _texts(layout: Layout, columns: Columns, scratch: Path) -> Iterator[ShardFile]:
    cells = column_cells([path for paths in layout.files.values() for path in paths], columns, texts=True)
    schema = _schema(cells)
    for number, (split, path) in enumerate((split, path) for split, paths in layout.files.items() for path in paths):
        file = _place(scratch, number, path)
        _write(file, read_rows(path, cells), schema)
        yield ShardFile(file, split)


def _described(layout: Layout, folder: Path, columns: Columns, scratch: Path) -> Iterator[ShardFile]:
    """A row for every file that metadata describe: its path, and the columns beside it."""
    clips = layout.kind is Files.CLIPS
    column, features = ("audio", {"audio": {"_type": "Audio"}}) if clips else ("image", {"image": {"_type": "Image"}})
    metadata = {path: split for split, paths in metadata_of(layout).items() for path in paths}
    cells = column_cells([path for path in metadata if is_text_file(path)], columns, texts=False)
    for number, (path, split) in enumerate(metadata.items()):
        if is_text_file(path):
            schema, rows = _schema(cells), read_rows(path, cells)
        else:
            table = pq.read_table(path)
            schema, rows = table.schema, iter(table.to_pylist())
        further = [field for field in schema if field.name != FILE_NAME]
        schema = pa.schema([pa.field(column, EMBEDDED), *further]).with_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        file = _place(scratch, number, path)
        described = described_files(path, folder, rows)
        _write(file, ({column: {"bytes": None, "path": str(clip)}, **more} for clip, more in described), schema)
        yield ShardFile(file, split)


def _place(scratch: Path, number: int, path: Path) -> Path:
    """Called as the file that is rewritten, so that errors name what the user knows."""
    file = scratch / f"rows-{number}" / path.name
    file.parent.mkdir()
    return file


def _schema(cells: Mapping[str, Cells]) -> pa.Schema:
    return pa.schema([(name, _ARROW[each]) for name, each in cells.items() if each in _ARROW])


def _write(file: Path, rows: Iterator[Mapping[str, Any]], schema: pa.Schema) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, WRITTEN_ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def _cast(values: pa.Array, type_: pa.DataType) -> pa.Array:
    if type_ == ANSWERS and values.type != type_:
        return pa.array([in_lists(each) for each in values.to_pylist()], type_)
    if type_ != EMBEDDED:
        return values if values.type == type_ else values.cast(type_)
    if not pa.types.is_struct(values.type):  # Bytes alone, or nulls.
        return pa.StructArray.from_arrays(
            [values.cast(pa.binary()), pa.nulls(len(values), pa.string())], fields=list(EMBEDDED)
        )
    parts = [
        pc.struct_field(values, field.name).cast(field.type)
        if values.type.get_field_index(field.name) >= 0
        else pa.nulls(len(values), field.type)
        for field in EMBEDDED
    ]
    return pa.StructArray.from_arrays(parts, fields=list(EMBEDDED))
