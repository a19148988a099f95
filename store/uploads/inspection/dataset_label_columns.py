"""Every column that a job may name as its labels: some of the labels in it per split, and rows without one.

The job names its label column at submission, so the service can then refuse a wrong one at once, instead of a worker later.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api_schemas.api.resources import LabelColumn
from api_schemas.enums import ColumnKind
from api_schemas.errors import SecateurError
from checkpoints.data.columns import SEVERAL
from checkpoints.data.label_numbers import list_digest, several_ids
from checkpoints.data.missing_labels import is_missing
from checkpoints.data.shards.columns import ShardColumn
from checkpoints.data.split_names import split_of
from store.uploads.inspection.dataset_labels import MAX_LABEL_LENGTH, is_label
from store.uploads.inspection.dataset_schema import Names, plain, read_columns, read_label_names

# One label that the checkpoint does not know is enough to refuse a column, so a sample of each split's is kept.
MAX_SAMPLE = 100
MAX_CHARACTERS = 2**13
# Beyond so many of one column no further split is looked at: whatever the shards hold, what is found goes into a row.
MAX_COLUMN_CHARACTERS = 2**16
MAX_COLUMNS = 16
BATCH_ROWS = 256
_NUMBERS = (ColumnKind.NUMBER, ColumnKind.NUMBERS)
LABEL_KINDS = (ColumnKind.LABEL, ColumnKind.LABELS, ColumnKind.TEXT, ColumnKind.TEXTS, *_NUMBERS)

Files = Sequence[tuple[Path, pq.ParquetFile]]


def label_columns(
    files: Files,
    columns: Mapping[str, ShardColumn],
    kinds: Mapping[str, ColumnKind],
    taken: Collection[str],
    first: str | None,
) -> dict[str, LabelColumn]:
    """By name; `first` is among them where it can be, `taken` (what is read) is not.

    A column that cannot be read is left out, because no job may ask for it.
    """
    names = [name for name, kind in kinds.items() if kind in LABEL_KINDS and name not in taken]
    # Numbers without names are most often something else.
    names.sort(key=lambda name: (name != first, kinds[name] in _NUMBERS))
    found: dict[str, LabelColumn] = {}
    for name in names[:MAX_COLUMNS]:
        try:
            found[name] = _column(files, name, columns[name])
        # Names of ids that differ from shard to shard, or are no names.
        except (pa.ArrowException, OSError, ValueError, SecateurError):
            continue
    return found


def unlabelled_splits(files: Files, column: str) -> tuple[str, ...]:
    """The splits in which no row has a label; none where that is so in all of them, and the column is just a wrong one."""
    labelled = dict.fromkeys((split_of(path.name) for path, file in files if file.metadata.num_rows), False)
    for path, file in files:
        split = split_of(path.name)
        if labelled.get(split, True) or column not in file.schema_arrow.names:
            continue
        labelled[split] = not is_unlabelled(file, column)
    return tuple(split for split, has in labelled.items() if not has) if any(labelled.values()) else ()


def is_unlabelled(file: pq.ParquetFile, column: str) -> bool:
    """Whether no row of a shard has a label in the column."""
    # Mostly the first rows say it, and reading ends with them: the rest may be gigabytes.
    try:
        return all(is_missing(value) for values in _batches(file, column) for value in _distinct(values))
    except (pa.ArrowException, OSError):
        return False  # The code that reads the rows reports what is wrong with them.


def label_names(files: Files, column: str, told: ShardColumn) -> Names | None:
    """As `read_label_names` of the first shard whose column is as `told`: one that has labels. Raises DATASET_SCHEMA."""
    schemas = [file.schema_arrow for _, file in files if column in file.schema_arrow.names]
    return read_label_names(next(each for each in schemas if read_columns(each)[column] == told), column)


def _column(files: Files, column: str, told: ShardColumn) -> LabelColumn:
    sample = _Sample(told.kind in SEVERAL, label_names(files, column, told))
    unlabelled = unlabelled_splits(files, column)
    rows: dict[str, int] = {}
    for path, file in files:
        split = split_of(path.name)
        if split in unlabelled or not file.metadata.num_rows:
            continue
        start = rows.setdefault(split, 0)
        rows[split] += file.metadata.num_rows
        if not sample.begin(split):
            continue
        for values in _batches(file, column):
            # A column of texts is known to be one after its first rows; the rest of it may be gigabytes.
            if sample.full(split):
                break
            sample.take(values, split, start)
            start += len(values)
    shared = set(several_ids(sample.names or ()))
    return LabelColumn(
        labels={split: tuple(sorted(used)) for split, used in sample.used.items()},
        complete=len(sample.used) == len(rows) and not any(map(sample.full, sample.used)),
        unusable=sample.unusable,
        unlabelled=unlabelled,
        highest_id=sample.highest_id,
        repeated=tuple(sorted(shared & {name for used in sample.used.values() for name in used})),
        names_sha256=list_digest(sample.names) if shared and sample.names else None,
    )


def _distinct(values: pa.Array) -> list[Any]:
    listed = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    found: list[Any] = (values if listed else pc.unique(values)).to_pylist()
    return found


def _batches(file: pq.ParquetFile, column: str) -> Iterator[pa.Array]:
    for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
        yield plain(batch.column(column))


class _Sample:
    """What a column holds, as far as it was looked at."""

    def __init__(self, several: bool, names: Names | None) -> None:
        self.names = names
        self.used: dict[str, set[str]] = {}
        self.unusable: dict[str, str] = {}
        self.highest_id: int | None = None
        self._several = several
        self._characters: Counter[str] = Counter()

    def begin(self, split: str) -> bool:
        """Whether this split is looked at."""
        if split not in self.used and self._characters.total() < MAX_COLUMN_CHARACTERS:
            self.used[split] = set()
        return split in self.used

    def full(self, split: str) -> bool:
        return len(self.used[split]) >= MAX_SAMPLE or self._characters[split] >= MAX_CHARACTERS

    def take(self, values: pa.Array, split: str, start: int) -> None:
        used = self.used[split]
        found = pc.unique(pc.list_flatten(values) if self._several else values).to_pylist()
        labels = [self._label(value) for value in found]
        new = {label for label in labels if label is not None} - used
        used |= new
        self._characters[split] += sum(map(len, new))
        if split not in self.unusable and (values.null_count or None in labels):
            row = next(row for row, value in enumerate(values.to_pylist()) if not self._usable(value))
            self.unusable[split] = f"the label at {split}[{start + row}] is {self._needed()}"

    def _usable(self, value: Any) -> bool:
        if value is None:
            return False
        return all(self._label(each) is not None for each in (value if self._several else [value]))

    def _label(self, value: Any) -> str | None:
        if self.names is not None:
            known = isinstance(value, int) and 0 <= value < len(self.names)
            if known and (self.highest_id is None or value > self.highest_id):
                self.highest_id = value
            value = self.names[value] if known else None
        elif isinstance(value, int):
            value = str(value)
        return value if is_label(value) else None

    def _needed(self) -> str:
        if self.names is not None:
            return "missing, or not one of the column's ids"
        return f"not a text of 1 to {MAX_LABEL_LENGTH} characters"
