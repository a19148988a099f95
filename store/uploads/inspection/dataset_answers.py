"""Columns of answers to questions: whether every answer is where it claims to be in the row's context.

A dataset with a misplaced answer may be meant for another task, so the problem is recorded here and the job refused at
submission.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from api_schemas.api.resources import LabelColumn
from api_schemas.enums import ColumnKind
from checkpoints.data.answers import answers_in, has_answer
from checkpoints.data.columns import CONTEXT
from checkpoints.data.split_names import split_of
from store.uploads.inspection.dataset_schema import plain

BATCH_ROWS = 64
MAX_COLUMNS = 4

Files = Sequence[tuple[Path, pq.ParquetFile]]
Take = Callable[[int, int], None]
"""(rows, bytes) that were unpacked. Raises DATASET_SCHEMA where they are too many."""
Show = Callable[[str, int, object], None]
"""(split, row, the value of its answers) of every row."""


def answer_columns(
    files: Files,
    kinds: Mapping[str, ColumnKind],
    unread: Collection[str],
    context: str | None,
    take: Callable[[], Take],
    show: Show,
) -> dict[str, LabelColumn]:
    """By name, the columns of answers; none where there are no contexts to look into.

    context: the column that the user says they stand in. unread: columns that differ from shard to shard. take: gives a bound for
    reading everything once. show: is told of the first column.
    """
    context = context or CONTEXT
    if kinds.get(context) is not ColumnKind.TEXT or context in unread:
        return {}
    names = [name for name, kind in kinds.items() if kind is ColumnKind.ANSWERS and name not in unread]
    return {
        name: _column(files, name, context, take(), show if name == names[0] else None) for name in names[:MAX_COLUMNS]
    }


def _column(files: Files, column: str, context: str, take: Take, show: Show | None) -> LabelColumn:
    rows: Counter[str] = Counter()
    answered: dict[str, bool] = {}
    unusable: dict[str, str] = {}
    for path, file in files:
        split = split_of(path.name)
        if not file.metadata.num_rows:
            continue
        answered.setdefault(split, False)
        if column not in file.schema_arrow.names:
            continue
        for batch in file.iter_batches(BATCH_ROWS, columns=[column, context]):
            texts, values = plain(batch.column(context)), plain(batch.column(column))
            take(batch.num_rows, texts.nbytes + values.nbytes)
            for text, value in zip(texts.to_pylist(), values.to_pylist(), strict=True):
                row, where, rows[split] = rows[split], f"{split}[{rows[split]}]", rows[split] + 1
                if show is not None:
                    show(split, row, value)
                answered[split] = answered[split] or has_answer(value)
                if split not in unusable and (wrong := _flaw(value, text)) is not None:
                    unusable[split] = f"at {where}, {wrong}"
    return LabelColumn(
        labels={},
        complete=True,
        unusable=unusable,
        unlabelled=tuple(split for split, has in answered.items() if not has),
        context=context,
    )


def _flaw(value: object, context: object) -> str | None:
    """What is wrong with a row, in a clause."""
    if not isinstance(context, str):
        return "the context is missing"
    try:
        answers_in(value, context)
    except ValueError as error:
        return str(error)
    return None
