"""A data folder for the engine from rows, as `datasets` stores them, and its reading."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from api_schemas.enums import Head, Modality
from api_schemas.spec.inputs import Columns, Splits
from worker.engine.data import PreparedData, prepare

CLIP, PICTURE = datasets.Audio(decode=False), datasets.Image(decode=False)
TEXT, TEXTS = datasets.Value("string"), datasets.List(datasets.Value("string"))
ANSWERS = {"text": TEXTS, "answer_start": datasets.List(datasets.Value("int32"))}


def write_split(file: Path, features: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """One shard; bytes are embedded."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = [
        {name: {"bytes": value, "path": None} if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(plain, schema=datasets.Features(dict(features)).arrow_schema), file)


def write_splits(folder: Path, features: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """The same rows as train, validation and test shards."""
    for split in ("train", "validation", "test"):
        write_split(folder / f"{split}.parquet", features, rows)
    return folder


def read(
    data: Path, model: Path, modality: Modality, head: Head, labels: Sequence[str] = (), **changes: Any
) -> PreparedData:
    """What `prepare` makes of the folder, in a cache beside it."""
    options: dict[str, Any] = {
        "multi_label": False,
        "columns": Columns(),
        "splits": Splits(),
        "seed": 0,
        "cache_dir": data.parent / "cache",
        "progress": lambda *_: None,
    }
    return prepare(data, model, modality=modality, head=head, labels=labels, **options | changes)
