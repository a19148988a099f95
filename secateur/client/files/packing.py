"""Packs a folder of recordings, images or texts into self-contained parquet shards, the service's data format.

Rows carry Hugging Face features in the schema: `datasets.load_dataset("parquet", …)` reads them. The same folder gives the same
bytes, so an interrupted upload is found again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from api_schemas.spec.inputs import Columns, Splits
from checkpoints.data.answers import START, TEXT
from checkpoints.data.described_files import FILE_NAME, described_files, metadata_of
from checkpoints.data.layout import Files, Layout, find_layout
from checkpoints.data.text_rows import Cells, column_cells, is_text_file, read_rows

SHARD_ROWS = 2048
"""Rows of a shard: 64 MB of one-second clips at 16 kHz."""
SHARD_BYTES = 2**29
GROUP_ROWS = 256
GROUP_BYTES = 2**26
"""Of files that are in memory together."""
_EMBEDDED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARROW = {
    Cells.TEXT: pa.string(),
    Cells.TEXTS: pa.list_(pa.string()),
    Cells.ANSWERS: pa.struct([(TEXT, pa.list_(pa.string())), (START, pa.list_(pa.int64()))]),
    Cells.INTEGER: pa.int64(),
    Cells.NUMBER: pa.float64(),
    Cells.TRUTH: pa.bool_(),
    Cells.DATE: pa.timestamp("us"),
}
TEXT_ROWS = 4096
"""Rows of a row group of texts."""

T = TypeVar("T")


def pack_folder(folder: Path, out: Path) -> None:
    """Write `<split>-00000-of-0000n.parquet` to `out` for every split of a folder that is laid out as docs/data.md says.

    Raises api_schemas.errors.SecateurError where it is laid out in no such way.
    """
    for _ in packing(find_layout(folder, Splits()), folder, out, Columns()):
        pass


def packing(layout: Layout, folder: Path, out: Path, columns: Columns) -> Iterator[int]:
    """The same, a group of rows at a time; yields how many files went into each. `columns`: what the user calls them.

    Raises ValueError where a file cannot be read.
    """
    if layout.kind in (Files.CSV, Files.JSON_LINES):
        yield from _texts(layout, out, columns)
    elif layout.kind is Files.ARROW:
        yield from _saved(layout, out)
    elif layout.metadata:
        yield from _described(layout, folder, out, columns)
    else:
        yield from _labelled(layout, out)


def _labelled(layout: Layout, out: Path) -> Iterator[int]:
    labels = sorted({path.parent.name for paths in layout.files.values() for path in paths})
    features = {"label": {"names": labels, "_type": "ClassLabel"}}
    types = {"label": pa.int64()}
    clips = layout.kind is Files.CLIPS
    if clips:
        features["speaker"] = {"dtype": "string", "_type": "Value"}
        types["speaker"] = pa.string()
    number = {label: index for index, label in enumerate(labels)}
    for split, paths in layout.files.items():
        # By speaker and number rather than by label, so that the start of a shard holds every label.
        rows = [
            # Of recordings, the speaker is what precedes the first underscore of the name.
            (path, {"label": number[path.parent.name]} | ({"speaker": path.name.split("_")[0]} if clips else {}))
            for path in sorted(paths, key=lambda path: path.name)
        ]
        yield from _embedded(split, rows, layout.kind, features, types, out)


def _described(layout: Layout, folder: Path, out: Path, columns: Columns) -> Iterator[int]:
    """Recordings or images whose rows are in metadata files beside them."""
    described = metadata_of(layout)
    cells = column_cells([p for paths in described.values() for p in paths if is_text_file(p)], columns, texts=False)
    for split, paths in described.items():
        rows: list[tuple[Path, Mapping[str, Any]]] = []
        types: dict[str, pa.DataType] = {}
        for path in paths:
            if is_text_file(path):
                schema, values = _schema(cells), read_rows(path, cells)
            else:
                table = pq.read_table(path)
                schema, values = table.schema, iter(table.to_pylist())
            types |= {field.name: field.type for field in schema if field.name != FILE_NAME}
            rows += described_files(path, folder, values)
        yield from _embedded(split, rows, layout.kind, {}, types, out)


def _embedded(
    split: str,
    rows: Sequence[tuple[Path, Mapping[str, Any]]],
    kind: Files,
    features: Mapping[str, Any],
    types: Mapping[str, pa.DataType],
    out: Path,
) -> Iterator[int]:
    """Shards of one split: every row a file and its further values."""
    if not rows:
        return
    clips = kind is Files.CLIPS
    column = "audio" if clips else "image"
    schema = pa.schema([(column, _EMBEDDED), *types.items()])
    schema = schema.with_metadata(
        {"huggingface": json.dumps({"info": {"features": _features(clips, rows[0][0], features, types)}})}
    )
    shards = list(_bounded(rows, SHARD_ROWS, SHARD_BYTES))
    for number, shard in enumerate(shards):
        with pq.ParquetWriter(out / _name(split, number, len(shards)), schema) as writer:
            for group in _bounded(shard, GROUP_ROWS, GROUP_BYTES):
                values = [
                    {column: {"bytes": path.read_bytes(), "path": path.name}, **further} for path, further in group
                ]
                writer.write_table(pa.Table.from_pylist(values, schema=schema))
                yield len(group)


def _features(
    clips: bool, first: Path, features: Mapping[str, Any], types: Mapping[str, pa.DataType]
) -> dict[str, Any]:
    """As `datasets` writes them. A type that they have no simple name for is left to Arrow's own schema."""
    if clips:
        found: dict[str, Any] = {
            "audio": {"sampling_rate": soundfile.info(first).samplerate, "decode": False, "_type": "Audio"}
        }
    else:
        found = {"image": {"decode": False, "_type": "Image"}}
    for name, type_ in types.items():
        found[name] = features.get(name) or _feature(type_)
    return found


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(type_), str(type_)), "_type": "Value"}


def _texts(layout: Layout, out: Path, columns: Columns) -> Iterator[int]:
    """A shard for every file."""
    cells = column_cells([path for paths in layout.files.values() for path in paths], columns, texts=True)
    schema = _schema(cells)
    for split, paths in layout.files.items():
        for number, path in enumerate(paths):
            rows = read_rows(path, cells)
            with pq.ParquetWriter(out / _name(split, number, len(paths)), schema) as writer:
                while some := list(islice(rows, TEXT_ROWS)):
                    writer.write_table(pa.Table.from_pylist(some, schema=schema))
            yield 1


def _saved(layout: Layout, out: Path) -> Iterator[int]:
    """A shard for every file that `save_to_disk` wrote."""
    for split, paths in layout.files.items():
        for number, path in enumerate(paths):
            with (
                pa.memory_map(str(path)) as file,
                pa.ipc.open_stream(file) as stream,
                pq.ParquetWriter(out / _name(split, number, len(paths)), stream.schema) as writer,
            ):
                for batch in stream:
                    for start in range(0, batch.num_rows, GROUP_ROWS):
                        writer.write_batch(batch.slice(start, GROUP_ROWS))
            yield 1


def _name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def _schema(cells: Mapping[str, Cells]) -> pa.Schema:
    return pa.schema([(name, _ARROW[each]) for name, each in cells.items() if each in _ARROW])


def _bounded(rows: Sequence[tuple[Path, T]], most: int, most_bytes: int) -> Iterator[list[tuple[Path, T]]]:
    """Runs of at most so many rows and so many bytes, or one row."""
    rest = iter(rows)
    while group := list(islice(rest, 1)):
        size = group[0][0].stat().st_size
        for row in rest:
            size += row[0].stat().st_size
            if size > most_bytes:
                yield group
                group, size = [row], row[0].stat().st_size
                continue
            group.append(row)
            if len(group) == most:
                break
        yield group
