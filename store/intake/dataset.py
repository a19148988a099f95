"""The dataset inspector: `python -m store.intake.dataset DIR` reads parquet shards and prints what they hold, as JSON.

A program of its own, because it runs C libraries on bytes from strangers: a crash or an endless loop in there must not be
the service's (inspector.py starts it, with limits). Output: {"contents": …} or {"error": …}, exit 0 either way.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.inputs import Columns
from api_schemas.resources import DatasetContents
from api_schemas.split_names import split_of
from store.intake.dataset_audio import read_clip
from store.intake.dataset_schema import Schema, read_schema, schema_error

BATCH_ROWS = 64
DECODED_CLIPS = 16
MAX_CLIP_BYTES = 256 * 2**20
MAX_LABEL_LENGTH = 256
MAX_LABELS = 65_536
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def inspect(folder: Path, columns: Columns) -> DatasetContents:
    """Read every shard of `folder`: schema, labels and every audio header, and decode a sample of the clips.

    Raises DATASET_EMPTY, DATASET_SCHEMA or AUDIO_UNDECODABLE.
    """
    shards = sorted(folder.glob("*.parquet"))
    files = [(path, _open(path)) for path in shards]
    total = sum(file.metadata.num_rows for _, file in files)
    if total == 0:
        raise SecateurError(
            ErrorCode.DATASET_EMPTY, "The dataset has no rows. Upload parquet shards with clips in them."
        )
    schema = _common_schema(files, columns)
    every = max(1, total // DECODED_CLIPS)
    rows: Counter[str] = Counter()
    used: set[str] = set()
    rates: set[int] = set()
    seconds, seen = 0.0, 0
    for path, file in files:
        split = split_of(path.name)
        for audio, label in _rows(file, schema, path.name):
            where = f"{split}[{rows[split]}]"
            used.update(_label_names(label, schema, where))
            if len(used) > MAX_LABELS:
                raise schema_error(f"it has more than {MAX_LABELS} different labels", schema.label_column)
            clip = read_clip(_embedded(audio, where), decode=seen % every == 0, where=where)
            seconds += clip.seconds
            rates.add(clip.sampling_rate)
            rows[split] += 1
            seen += 1
    if not used:
        raise schema_error("no clip has a label", schema.label_column)
    return DatasetContents(
        rows=dict(rows),
        # Those in use: what a ClassLabel names beyond them needs no place in the checkpoint.
        labels=tuple(name for name in schema.names or sorted(used) if name in used),
        multi_label=schema.multi_label,
        columns=schema.columns,
        input_column=schema.input_column,
        label_column=schema.label_column,
        seconds=round(seconds, 3),
        sampling_rates=tuple(sorted(rates)),
    )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path.name, error) from None


def _common_schema(files: list[tuple[Path, pq.ParquetFile]], columns: Columns) -> Schema:
    first_path, first = files[0]
    schema = read_schema(first.schema_arrow, columns)
    for path, file in files[1:]:
        if read_schema(file.schema_arrow, columns) != schema:
            reason = f"{path.name} has other columns or label names than {first_path.name}; write all shards alike"
            raise schema_error(reason, path.name)
    return schema


def _rows(file: pq.ParquetFile, schema: Schema, name: str) -> Iterator[tuple[Any, Any]]:
    """(audio, label) of every row; a few rows at a time are in memory."""
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=[schema.input_column, schema.label_column]):
            audio, labels = batch.column(schema.input_column), batch.column(schema.label_column)
            embedded = audio.field("bytes")
            for index in range(batch.num_rows):
                # A null struct has no bytes either, whatever lies in its child array.
                yield (embedded[index] if audio[index].is_valid else None), labels[index].as_py()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, error) from None


def _embedded(audio: Any, where: str) -> bytes:
    data: bytes | None = audio.as_py() if audio is not None else None
    if not data:
        raise schema_error(f"the clip at {where} has no embedded bytes; write them into the shard, not a path", where)
    if len(data) > MAX_CLIP_BYTES:
        raise schema_error(f"the clip at {where} has {len(data)} bytes; {MAX_CLIP_BYTES} are read", where)
    return data


def _label_names(label: Any, schema: Schema, where: str) -> list[str]:
    values = label if schema.multi_label and label is not None else [label]
    if not schema.multi_label and label is None:
        raise schema_error(f"the clip at {where} has no label", where)
    names = []
    for value in values:
        if schema.names is not None:
            if not isinstance(value, int) or not 0 <= value < len(schema.names):
                raise schema_error(
                    f"the label at {where} is {value}, not an id of the {len(schema.names)} names", where
                )
            value = schema.names[value]
        # Without NUL and halves of surrogate pairs: neither every database nor JSON in UTF-8 can hold them.
        if not isinstance(value, str) or not 0 < len(value) <= MAX_LABEL_LENGTH or _UNSTORABLE.search(value):
            raise schema_error(f"the label at {where} is not a text of 1 to {MAX_LABEL_LENGTH} characters", where)
        names.append(value)
    return names


def _unreadable(name: str, error: Exception) -> SecateurError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    item = ErrorItem(pointer=name, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"{name} is not a parquet file that can be read: {reason}.", (item,))


def main() -> int:
    """Inspect a folder; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", default="{}", help="JSON: {input, label, group}")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    answer: dict[str, Any]
    try:
        contents = inspect(arguments.folder, Columns.model_validate_json(arguments.columns))
        answer = {"contents": contents.model_dump(mode="json")}
    except SecateurError as error:
        items = [item.model_dump() for item in error.errors]
        answer = {"error": {"code": error.code, "detail": error.detail, "errors": items}}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
