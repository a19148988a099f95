"""The role of each column of a dataset, from the features that `datasets` gives its columns.

`datasets` is imported inside the functions: it takes seconds and starts a thread, and a process that forks must have only one.
"""

from typing import TYPE_CHECKING, Any

from api_schemas.enums import ColumnKind
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.answers import START, TEXT
from checkpoints.data.columns import columns_error

if TYPE_CHECKING:
    import datasets

_TEXT = ("string", "large_string")


def kinds_of(features: "datasets.Features") -> dict[str, ColumnKind]:
    """The kind of every column."""
    return {name: _kind(feature) for name, feature in features.items()}


def element(feature: Any) -> Any:
    """What a list feature is a list of; None for a feature that is no list."""
    import datasets

    if isinstance(feature, datasets.List | datasets.LargeList):
        return feature.feature
    return feature[0] if isinstance(feature, list) and feature else None


def is_integer(feature: Any) -> bool:
    """Whether it is of whole numbers without names."""
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint"))


def schema_error(reason: str, features: "datasets.Features", *place: str) -> SecateurError:
    """DATASET_SCHEMA; the reason, then the columns there are. `place`: as of `ErrorItem.at`."""
    return columns_error(kinds_of(features), reason, *place)


def row_error(where: str, reason: str) -> SecateurError:
    """DATASET_SCHEMA for the row at `where` (split and row)."""
    item = ErrorItem.at(where, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: at {where}, {reason}.", (item,))


def _kind(feature: Any) -> ColumnKind:
    import datasets

    if isinstance(feature, datasets.Audio):
        return ColumnKind.AUDIO
    if isinstance(feature, datasets.Image):
        return ColumnKind.IMAGE
    if isinstance(feature, dict):
        data = feature.get("bytes")
        if isinstance(data, datasets.Value) and data.dtype in ("binary", "large_binary"):
            return ColumnKind.EMBEDDED
        return ColumnKind.ANSWERS if {TEXT, START} == set(feature) else ColumnKind.OTHER
    inner = element(feature)
    value = feature if inner is None else inner
    if isinstance(value, datasets.ClassLabel):
        return ColumnKind.LABEL if inner is None else ColumnKind.LABELS
    if isinstance(value, datasets.Value) and value.dtype in _TEXT:
        return ColumnKind.TEXT if inner is None else ColumnKind.TEXTS
    if is_integer(value):
        return ColumnKind.NUMBER if inner is None else ColumnKind.NUMBERS
    return ColumnKind.OTHER
