"""Which column of a dataset is what: by the name a user gave, else by type and usual name."""

from dataclasses import dataclass
from typing import Any

import datasets

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.inputs import Columns

LABEL_NAMES = ("label", "labels")


@dataclass(frozen=True)
class FoundColumns:
    """`group` is None where rows are not grouped."""

    input: str
    label: str
    group: str | None


def find_columns(features: datasets.Features, wanted: Columns) -> FoundColumns:
    """Raises DATASET_SCHEMA, listing the columns, where one is missing, ambiguous or of another type."""
    for name in (wanted.input, wanted.label, wanted.group):
        if name is not None and name not in features:
            raise schema_error(f"there is no column {name!r}", features, pointer=name)
    return FoundColumns(_input(features, wanted.input), _label(features, wanted.label), wanted.group)


def element(feature: Any) -> Any:
    """What a list feature is a list of; None for a feature that is no list."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return feature.feature
    return feature[0] if isinstance(feature, list) and feature else None


def schema_error(reason: str, features: datasets.Features, pointer: str = "") -> SecateurError:
    """DATASET_SCHEMA; the reason, then the columns there are."""
    columns = ", ".join(f"{name} ({_type_name(feature)})" for name, feature in features.items())
    item = ErrorItem(pointer=pointer, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    detail = f"The dataset cannot be used: {reason}. Its columns are: {columns}."
    return SecateurError(ErrorCode.DATASET_SCHEMA, detail, (item,))


def _input(features: datasets.Features, wanted: str | None) -> str:
    if wanted is not None:
        if not _is_audio(features[wanted]):
            raise schema_error(f"column {wanted!r} holds no audio", features, pointer=wanted)
        return wanted
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    found: list[str] = declared or [name for name, feature in features.items() if _is_audio(feature)]
    if len(found) != 1:
        reason = f"several columns hold audio ({', '.join(found)})" if found else "no column holds embedded audio"
        raise schema_error(f"{reason}; name one in columns.input", features)
    return found[0]


def _label(features: datasets.Features, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    for name in LABEL_NAMES:
        if name in features:
            return name
    declared: list[str] = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.ClassLabel) or isinstance(element(feature), datasets.ClassLabel)
    ]
    if len(declared) == 1:
        return declared[0]
    raise schema_error("no column is called `label` or `labels`; name one in columns.label", features)


def _is_audio(feature: Any) -> bool:
    """An Audio, or the struct that one is stored as, written without `datasets`."""
    if isinstance(feature, datasets.Audio):
        return True
    data = feature.get("bytes") if isinstance(feature, dict) else None
    return isinstance(data, datasets.Value) and data.dtype in ("binary", "large_binary")


def _type_name(feature: Any) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
