"""Splits whose rows have no labels: a benchmark withholds those of its test split, and writes null or -1 in their place.

The inspector, the service and the engine must agree on it: such a split is left out if labels are needed.
"""

from collections.abc import Collection, Mapping
from typing import Any

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from checkpoints.data.answers import START, TEXT, has_answer

NO_LABEL = -1
"""What GLUE and others write as the id where there is no label."""
NO_LABELS = (NO_LABEL, -100)
"""And what torch's losses pass over."""


def is_missing(value: Any) -> bool:
    """Whether a label is not there: null, an empty text, the id -1, also as a text, -100, NaN, or a list of nothing else.

    Of a split of nothing but that nothing can be said: an empty list is none, and nor are answers to a question that has none.
    """
    if isinstance(value, Mapping) and {TEXT, START} <= value.keys():
        return not has_answer(value)
    if isinstance(value, list):
        return all(map(is_missing, value))
    if isinstance(value, float):
        return value != value
    return value is None or value in ("", str(NO_LABEL)) or (type(value) is int and value in NO_LABELS)


def labelled_splits(
    named: Mapping[Split, str], unlabelled: Collection[str], column: str
) -> tuple[dict[Split, str], tuple[JobWarning, ...]]:
    """The roles whose splits have labels in `column`, and a warning for each of the others, which are held out of train.

    Raises DATASET_SCHEMA where train has none.
    """
    pointer = "/dataset/splits"
    kept = {role: split for role, split in named.items() if split not in unlabelled}
    if Split.TRAIN not in kept:
        detail = f"No row of the split {named[Split.TRAIN]!r} has a label in column {column!r}, but it is the split for training."
        item = ErrorItem(pointer=f"{pointer}/{Split.TRAIN.value}", code=ErrorCode.DATASET_SCHEMA, detail=detail)
        raise SecateurError(ErrorCode.DATASET_SCHEMA, detail, (item,))
    warnings = tuple(
        JobWarning(
            code="no_labels",
            pointer=f"{pointer}/{role.value}",
            detail=(
                f"No row of the split {split!r} has a label in column {column!r} (all are null, empty or {NO_LABEL}). "
                f"The split is left out, and {role.value} is held out of train instead: name another split for it, or "
                "upload one with labels."
            ),
        )
        for role, split in named.items()
        if role not in kept
    )
    return kept, warnings
