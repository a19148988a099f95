"""The dataset inspector: `python -m store.uploads.inspection.dataset DIR` reads parquet shards and describes them as JSON.

It is a separate program because it runs C libraries on untrusted bytes: a crash or an endless loop there must not affect the
service (dataset_process.py starts it, with limits). Writes {"contents": …, "samples": …} or {"error": …}, with exit status 0
either way.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from api_schemas.api.resources import BlankTexts, DatasetContents, LabelColumn
from api_schemas.enums import ColumnKind, Modality
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.inputs import Columns
from checkpoints.data.blank_texts import is_blank, is_missing_text
from checkpoints.data.columns import FoundColumns, check_alike, inspected_columns
from checkpoints.data.media import MAGIC_BYTES, kind_of_files
from checkpoints.data.shards.columns import CommonColumns, Shard, common_columns
from checkpoints.data.shards.row_hashes import RowHashes
from checkpoints.data.split_names import split_of
from store.uploads.inspection import dataset_rows
from store.uploads.inspection.dataset_answers import Show, Take, answer_columns
from store.uploads.inspection.dataset_audio import read_clip
from store.uploads.inspection.dataset_image import check_image
from store.uploads.inspection.dataset_label_columns import (
    is_unlabelled,
    label_columns,
    label_names,
    unlabelled_splits,
)
from store.uploads.inspection.dataset_labels import LabelJudgement, Labels
from store.uploads.inspection.dataset_samples import Samples
from store.uploads.inspection.dataset_schema import plain, read_columns, schema_error

BATCH_ROWS = 64
DECODED = 16
# A few kilobytes of metadata or of repeated values can claim anything; what is claimed is bounded before it is unpacked.
MAX_COLUMNS = 256
MAX_ROW_GROUPS = 65_536
MAX_GROUP_BYTES = 2 * 2**30
MAX_METADATA_ITEMS = 1_000_000

Files = list[tuple[Path, pq.ParquetFile]]


@dataclass
class _Sounds:
    """What all clips say together."""

    seconds: float = 0.0
    rates: set[int] = field(default_factory=set)
    flaws: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By split."""


@dataclass
class _Texts:
    """What all texts say together."""

    blank: dict[str, BlankTexts] = field(default_factory=dict)
    """By split."""
    characters: int | None = None
    """Null as long as there is no text."""

    def take(self, texts: tuple[str, ...], split: str, row: int) -> None:
        self.count(texts)
        if any(map(is_blank, texts)):
            before = self.blank.get(split, BlankTexts(rows=0))
            first = row if before.missing is None and any(map(is_missing_text, texts)) else before.missing
            self.blank[split] = BlankTexts(rows=before.rows + 1, missing=first)

    def count(self, texts: tuple[str, ...]) -> None:
        self.characters = (self.characters or 0) + sum(map(len, texts))


@dataclass
class _Left:
    """How much more may be read: the footer of a few kilobytes may claim less than its repeated values unpack to."""

    rows: int
    unpacked: int

    def __post_init__(self) -> None:
        self._most = (self.rows, self.unpacked)

    def require_rows(self, count: int) -> None:
        if count > self.rows:
            raise schema_error(f"it has {count} rows in all; the maximum is {self._most[0]}")

    def take(self, rows: int, unpacked: int) -> None:
        self.rows -= rows
        self.unpacked -= unpacked
        if self.rows < 0:
            raise schema_error(f"it has more than {self._most[0]} rows in all")
        if self.unpacked < 0:
            raise schema_error(f"its rows have more than {self._most[1]} bytes uncompressed")


def inspect(
    folder: Path,
    columns: Columns,
    most_rows: int = sys.maxsize,
    most_bytes: int = sys.maxsize,
    samples: Samples | None = None,
) -> DatasetContents:
    """Read every shard of `folder`: schema, labels, texts and the header of every clip or image, and decode a sample of them.
    `samples` takes the rows that are to be shown.

    Raises DATASET_EMPTY, DATASET_SCHEMA (also beyond `most_rows`, or where what is read unpacks to more than `most_bytes`),
    AUDIO_UNDECODABLE or IMAGE_UNDECODABLE.
    """
    files = [(path, _open(path)) for path in sorted(folder.glob("*.parquet"))]
    total = sum(file.metadata.num_rows for _, file in files)
    if total == 0:
        raise SecateurError(
            ErrorCode.DATASET_EMPTY, "The dataset has no rows. Upload parquet shards that contain rows."
        )
    left = _Left(most_rows, most_bytes)
    left.require_rows(total)
    common = _common_columns(files)
    kinds = common.kinds
    modality, found = inspected_columns(kinds, columns, common.unlike)
    judgement = LabelJudgement(named=columns.label is not None)
    labels, unlabelled = judgement.of(lambda: _labels(files, common, found, modality)) or (None, ())
    read = found if labels is not None else replace(found, label=None)
    rows: Counter[str] = Counter()
    sounds, texts = _Sounds(), _Texts()
    hashes = RowHashes()
    if samples is not None:
        samples.choose(_claimed_rows(files))
    every, seen = max(1, total // DECODED), 0
    for path, file in files:
        split = split_of(path.name)
        for value, second, label in _rows(file, read, path.name, left):
            where = f"{split}[{rows[split]}]"
            decode, seen = seen % every == 0, seen + 1
            words: list[str] | None = None
            row: tuple[str, ...] = ()
            data = b""
            if kinds[found.input] is ColumnKind.TEXTS:
                words = dataset_rows.words(value.as_py(), where)
                row = (" ".join(words),)
                texts.count(row)
                hashes.add(split, tuple(words))
            elif modality is Modality.TEXT:
                both = (value,) if found.pair is None else (value, second)
                row = tuple(dataset_rows.bounded_text(each.as_py(), where) for each in both)
                texts.take(row, split, rows[split])
                hashes.add(split, row if len(row) > 1 else row[0])
            else:
                data = _checked_file(value, modality, sounds, where, decode=decode)
                hashes.add(split, data)
            named: tuple[str, ...] | None = None
            if labels is not None and split not in unlabelled:
                named = judgement.of(partial(labels.take, label, split, where, None if words is None else len(words)))
            if samples is not None and samples.wants(split, rows[split]):
                samples.take(split, rows[split], data or row, modality, named or ())
            rows[split] += 1
    # What a ClassLabel calls its ids is judged of each column by itself.
    perhaps = {name: kind for name, kind in kinds.items() if name not in common.unlike.differing}
    of_answers = _answer_columns(
        files,
        common,
        found.pair or columns.input_pair,
        lambda: _Left(most_rows, most_bytes).take,
        (samples or Samples()).answer,
    )
    return DatasetContents(
        rows=dict(rows),
        modality=modality,
        labels=(judgement.of(labels.finish) if labels else None) or (),
        label_counts=judgement.of(labels.counts) if labels else None,
        multi_label=labels is not None and labels.several and kinds[found.input] is not ColumnKind.TEXTS,
        columns=tuple(kinds),
        kinds=kinds,
        differing=dict(common.unlike.differing),
        lacking=dict(common.unlike.lacking),
        input_column=found.input,
        pair_column=found.pair,
        label_column=found.label,
        label_error=judgement.error,
        label_columns=label_columns(files, common.columns, perhaps, (found.input, found.pair or ""), found.label)
        | of_answers,
        shared_rows=hashes.shared(),
        seconds=round(sounds.seconds, 3),
        sampling_rates=tuple(sorted(sounds.rates)),
        clip_flaws={split: dict(found) for split, found in sounds.flaws.items()},
        blank_texts=texts.blank,
        characters=texts.characters,
    )


def _claimed_rows(files: Files) -> dict[str, int]:
    """By split, as the metadata says."""
    rows: Counter[str] = Counter()
    for path, file in files:
        rows[split_of(path.name)] += file.metadata.num_rows
    return dict(rows)


def _labels(
    files: Files, common: CommonColumns, found: FoundColumns, modality: Modality
) -> tuple[Labels | None, tuple[str, ...]]:
    """What judges the values of the label column, and the splits without any. Raises DATASET_SCHEMA."""
    kinds, column = common.kinds, found.label
    # Answers to questions are looked at column by column.
    if column is None or kinds[column] is ColumnKind.ANSWERS:
        return None, ()
    check_alike(kinds, found, common.unlike)
    labels = Labels(column, kinds[column], label_names(files, column, common.columns[column]), modality)
    return labels, unlabelled_splits(files, column)


def _answer_columns(
    files: Files, common: CommonColumns, context: str | None, take: Callable[[], Take], show: Show
) -> dict[str, LabelColumn]:
    try:
        return answer_columns(files, common.kinds, {*common.unlike.differing}, context, take, show)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable("a column of answers", error) from None


def _checked_file(value: Any, modality: Modality, sounds: _Sounds, where: str, decode: bool) -> bytes:
    """The recording or image that the row holds, which can be used."""
    if modality is Modality.IMAGE:
        data = dataset_rows.embedded(value, "image", where)
        check_image(data, decode=decode, where=where)
        return data
    data = dataset_rows.embedded(value, "clip", where)
    clip = read_clip(data, decode=decode, where=where)
    sounds.seconds += clip.seconds
    sounds.rates.add(clip.sampling_rate)
    if clip.flaws:
        sounds.flaws[where.rsplit("[", 1)[0]].update(flaw.value for flaw in clip.flaws)
    return data


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False, thrift_container_size_limit=MAX_METADATA_ITEMS)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path.name, error) from None
    _check_claims(path.name, file.metadata)
    return file


def _check_claims(name: str, said: pq.FileMetaData) -> None:
    for what, count, most in (
        ("rows", said.num_rows, sys.maxsize),
        ("columns", said.num_columns, MAX_COLUMNS),
        ("row groups", said.num_row_groups, MAX_ROW_GROUPS),
    ):
        if not 0 <= count <= most:
            raise schema_error(f"{name} claims to have {count} {what}; the maximum is {most}", name)
    for index in range(said.num_row_groups):
        unpacked = said.row_group(index).total_byte_size
        if not 0 <= unpacked <= MAX_GROUP_BYTES:
            detail = f"a row group of {name} has {unpacked} bytes uncompressed; the maximum is {MAX_GROUP_BYTES}"
            raise schema_error(detail, name)


def _common_columns(files: Files) -> CommonColumns:
    """The columns of all shards with rows; of bytes that no metadata describes, what the first of them are."""
    there = [(path, file) for path, file in files if file.metadata.num_rows]
    common = common_columns(
        [Shard(path.name, split_of(path.name), read_columns(file.schema_arrow)) for path, file in there],
        lambda number, name: is_unlabelled(there[number][1], name),
    )
    for name, kind in common.kinds.items():
        if kind is ColumnKind.EMBEDDED:
            common.kinds[name] = kind_of_files(_first_bytes(files, name), raw=common.columns[name].raw)
    return common


def _first_bytes(files: Files, column: str) -> bytes:
    for path, file in files:
        if column not in file.schema_arrow.names:
            continue
        try:
            for batch in file.iter_batches(1, columns=[column]):
                data = dataset_rows.file_bytes(plain(batch.column(column))[0])
                if data:
                    return data[:MAGIC_BYTES]
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path.name, error) from None
    return b""


def _rows(file: pq.ParquetFile, found: FoundColumns, name: str, left: _Left) -> Iterator[tuple[Any, Any, Any]]:
    """(input, second text, label) of every row, the first two as Arrow scalars; None where there is none. A few are in memory."""
    columns = [each for each in (found.input, found.pair, found.label) if each in file.schema_arrow.names]
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            values = {each: plain(batch.column(each)) for each in columns}
            left.take(batch.num_rows, sum(each.nbytes for each in values.values()))
            inputs, pairs, labels = values[found.input], values.get(found.pair or ""), values.get(found.label or "")
            for index in range(batch.num_rows):
                second = None if pairs is None else pairs[index]
                yield inputs[index], second, None if labels is None else labels[index].as_py()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> SecateurError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    item = ErrorItem.at(name, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"{name} cannot be read as a parquet file: {reason}.", (item,))


def main() -> int:
    """Inspect a folder; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", default="{}", help="JSON: {input, label, group}")
    parser.add_argument("--rows", type=int, required=True, help="most rows that are read")
    parser.add_argument("--bytes", type=int, required=True, help="most bytes that they may unpack to")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    answer: dict[str, Any]
    try:
        columns = Columns.model_validate_json(arguments.columns)
        samples = Samples()
        contents = inspect(arguments.folder, columns, arguments.rows, arguments.bytes, samples)
        shown = [sample.model_dump(mode="json") for sample in samples.found]
        answer = {"contents": contents.model_dump(mode="json"), "samples": shown}
    except SecateurError as error:
        items = [item.model_dump() for item in error.errors]
        answer = {"error": {"code": error.code, "detail": error.detail, "errors": items}}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
