"""The kind of a shard's column: by its Arrow type, and by the `huggingface` metadata that `datasets` writes beside it.

The inspector and the engine each describe the type in these terms, and get the same result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from api_schemas.enums import ColumnKind
from checkpoints.data.shards.columns import ShardColumn


class Holds(Enum):
    """What a value is, or an element where values are lists."""

    TEXT = auto()
    INTEGER = auto()
    BYTES = auto()
    FILE = auto()
    """A struct with `bytes` in it."""
    ANSWERS = auto()
    """A struct of lists `text` and `answer_start`."""
    ANSWER = auto()
    """A struct of one of each."""
    NULL = auto()
    OTHER = auto()


@dataclass(frozen=True)
class ArrowType:
    """`said`: what Arrow calls it."""

    holds: Holds
    several: bool
    said: str


def declared_features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """By column, what `datasets` wrote into the metadata of a schema. Empty where that is something else."""
    raw = (metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}  # Not what `datasets` writes: then the Arrow types alone speak.
    return features if isinstance(features, dict) else {}


def shard_column(type_: ArrowType, feature: Any) -> ShardColumn:
    """`feature`: what `declared_features` has of the column, None where that is nothing."""
    kind = _kind(type_, feature)
    names = class_names(feature) if kind in (ColumnKind.LABEL, ColumnKind.LABELS) else None
    # Names that are no texts are refused where the column is read.
    named = tuple(map(str, names)) if isinstance(names, list) else None
    return ShardColumn(
        kind, type_.said, named, empty=type_.holds is Holds.NULL and not type_.several, raw=type_.holds is Holds.BYTES
    )


def class_names(feature: Any) -> Any:
    """The names of a ClassLabel, or of a list of them: normally a list of texts. None for another feature."""
    element = _element(feature)
    return element.get("names") if _declared(element) == "ClassLabel" else None


def _kind(type_: ArrowType, feature: Any) -> ColumnKind:
    if type_.holds in (Holds.FILE, Holds.BYTES) and not type_.several:
        declared = {"Audio": ColumnKind.AUDIO, "Image": ColumnKind.IMAGE}
        return declared.get(_declared(feature) or "", ColumnKind.EMBEDDED)
    if type_.holds is Holds.TEXT:
        return ColumnKind.TEXTS if type_.several else ColumnKind.TEXT
    if type_.holds is (Holds.ANSWER if type_.several else Holds.ANSWERS):
        return ColumnKind.ANSWERS
    if type_.holds is Holds.INTEGER and class_names(feature) is not None:
        return ColumnKind.LABELS if type_.several else ColumnKind.LABEL
    if type_.holds is Holds.INTEGER:
        return ColumnKind.NUMBERS if type_.several else ColumnKind.NUMBER
    return ColumnKind.OTHER


def _declared(feature: Any) -> str | None:
    kind = feature.get("_type") if isinstance(feature, dict) else None
    return kind if isinstance(kind, str) else None


def _element(feature: Any) -> Any:
    """What a list feature is a list of: `datasets` has written it in three ways. A feature that is none comes back."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    if _declared(feature) in ("Sequence", "List", "LargeList"):
        return feature.get("feature")
    return feature if isinstance(feature, dict) else {}
