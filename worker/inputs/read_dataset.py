"""Reads the files of a hub dataset into a data folder; a separate program, run once worker/inputs/inputs.py has fetched them.

    python -m worker.inputs.read_dataset --source DIR --out DIR [--config NAME]

The files are untrusted: `datasets` reads them in a process that has and needs neither credentials nor a network. Code is never
run, a card may not point outside the repository, and rows may not point at files. The result is `<split>-00000-of-0000N.parquet`
with the features in the schema or, for a repository of plain audio or image files, those files in their folders.

Exit status 0, or 1 with a FetchFailure as JSON in the last line of stdout.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.compute as pc
from datasets import Audio, Dataset, DatasetDict, Image, load_dataset
from huggingface_hub import DatasetCard

from worker.children.child import follow_parent
from worker.inputs.hub_dataset import CARD, is_inside
from worker.inputs.inputs import FetchFailure

SHARD_BYTES = 512 * 2**20


class Unusable(Exception):
    """The files are not what we take."""


def read(source: Path, config: str | None, out: Path) -> None:
    """Fill `out` from the files below `source`, which are used up. Raises Unusable, or whatever `datasets` raises."""
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    if any(name.endswith(".parquet") for name in names):
        if CARD in names:
            check_card(source / CARD)
        convert(source, config, out)
    else:
        place_files(source, names, config, out)


def check_card(card: Path) -> None:
    """Refuse a card whose configurations name data outside of the repository: other hosts, other folders."""
    data = DatasetCard.load(card, ignore_metadata_errors=True).data.to_dict()
    for pattern in _strings([entry.get("data_files") for entry in _entries(data)]):
        if not is_inside(pattern):
            raise Unusable(f"its card refers to data outside the repository: {pattern!r}.")
    for entry in _entries(data):
        if not is_inside(str(entry.get("data_dir") or ".")):
            raise Unusable(f"its card refers to data outside the repository: {entry['data_dir']!r}.")


def convert(source: Path, config: str | None, out: Path) -> None:
    """Read with `datasets`, write shards a split, audio and images as the bytes they came in."""
    loaded = load_dataset(str(source), name=config, cache_dir=str(source.with_name("converted")))
    assert isinstance(loaded, DatasetDict)
    for split, rows in loaded.items():
        for column, feature in rows.features.items():
            if isinstance(feature, Audio | Image):
                whole = Image(decode=False)
                if isinstance(feature, Audio):
                    whole = Audio(sampling_rate=feature.sampling_rate, decode=False)
                rows = rows.cast_column(column, whole)
                check_embedded(rows, column)
        shards = max(1, -(-(rows.data.nbytes or 0) // SHARD_BYTES))
        for index in range(shards):
            shard = rows.shard(shards, index, contiguous=True)
            shard.to_parquet(out / f"{split}-{index:05d}-of-{shards:05d}.parquet")


def check_embedded(rows: Dataset, column: str) -> None:
    """Refuse rows that name a file instead of holding its bytes: reading it would open any file of this machine."""
    for chunk in rows.data.column(column).chunks:
        if pc.any(pc.is_null(pc.struct_field(chunk, "bytes"))).as_py():
            raise Unusable(f"column {column!r} has rows without the bytes of a file.")


def place_files(source: Path, names: Sequence[str], config: str | None, out: Path) -> None:
    """Plain audio or image files are handed over in their folders; a configuration is a folder of that name."""
    base = PurePosixPath(config) if config else PurePosixPath(".")
    moved = 0
    for name in names:
        if name == CARD or not PurePosixPath(name).is_relative_to(base):
            continue
        target = out / PurePosixPath(name).relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target)
        moved += 1
    if not moved:
        raise Unusable(f"it has no folder {config!r} that contains audio or image files.")


def _entries(card: dict[str, Any]) -> list[dict[str, Any]]:
    configs = card.get("configs")
    return [entry for entry in configs if isinstance(entry, dict)] if isinstance(configs, list) else []


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def failure(error: Exception) -> FetchFailure:
    """What to tell the user; trying again does not help."""
    if isinstance(error, Unusable):
        return FetchFailure(detail=str(error), transient=False)
    return FetchFailure(detail=f"its files could not be read ({type(error).__name__}: {error})", transient=False)


def main(argv: list[str] | None = None) -> int:
    """Run the reader; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.inputs.read_dataset", description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--config")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    follow_parent()
    try:
        read(arguments.source, arguments.config, arguments.out)
    except Exception as error:
        if not isinstance(error, Unusable):
            sys.excepthook(type(error), error, error.__traceback__)  # For the worker's log.
        print(failure(error).model_dump_json(), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
