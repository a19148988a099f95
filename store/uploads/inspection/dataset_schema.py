"""What kind of column each column of a parquet shard is, and what the labels of one are called.

Read from the Arrow schema and, where there is one, from the `huggingface` metadata that `datasets` writes beside it.
"""

import json
from typing import Any

import pyarrow as pa

from api_schemas.enums import ColumnKind
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError

MAX_COLUMNS = 256
MAX_LABELS = 65_536

Names = tuple[str, ...]


def read_kinds(schema: pa.Schema) -> dict[str, ColumnKind]:
    """The kind of every column. Raises DATASET_SCHEMA where names repeat or are too many."""
    columns = schema.names
    if len(columns) > MAX_COLUMNS or len(set(columns)) != len(columns):
        raise schema_error(f"a shard needs distinct column names, at most {MAX_COLUMNS}")
    features = _features(schema)
    return {name: _kind(schema.field(name).type, features.get(name)) for name in columns}


def read_label_names(schema: pa.Schema, column: str) -> Names | None:
    """Names of a label column's ids, or None where it holds the names themselves. Raises DATASET_SCHEMA for another type."""
    type_ = schema.field(column).type
    value = _plain(type_)
    if _is_text(value):
        return None
    if not pa.types.is_integer(value):
        raise schema_error(f"column {column!r} is {type_}; labels are text, or ids of a ClassLabel", column)
    names = _class_names(_features(schema).get(column))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise schema_error(
            f"column {column!r} holds numbers without names; write labels as text, or with the ClassLabel feature of "
            "`datasets`, since they are matched with the checkpoint's by name",
            column,
        )
    if not 0 < len(names) <= MAX_LABELS or len(set(names)) != len(names):
        raise schema_error(f"the label names of {column!r} are not distinct, or not 1 to {MAX_LABELS}", column)
    return tuple(names)


def schema_error(reason: str, *place: str) -> SecateurError:
    """DATASET_SCHEMA with a reason that fits after `The dataset cannot be used: …`. `place`: as of `ErrorItem.at`."""
    item = ErrorItem.at(*place, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}.", (item,))


def _features(schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}  # Not what `datasets` writes: then the Arrow types alone speak.
    return features if isinstance(features, dict) else {}


def _kind(type_: pa.DataType, feature: Any) -> ColumnKind:
    if pa.types.is_struct(type_):
        if not _embeds(type_):
            return ColumnKind.OTHER
        declared = {"Audio": ColumnKind.AUDIO, "Image": ColumnKind.IMAGE}
        return declared.get(_declared(feature) or "", ColumnKind.EMBEDDED)
    several, value = _is_list(type_), _plain(type_)
    if _is_text(value):
        return ColumnKind.TEXTS if several else ColumnKind.TEXT
    if pa.types.is_integer(value) and _class_names(feature) is not None:
        return ColumnKind.LABELS if several else ColumnKind.LABEL
    return ColumnKind.OTHER


def _embeds(type_: pa.DataType) -> bool:
    index = type_.get_field_index("bytes")
    return bool(index >= 0 and (pa.types.is_binary(type_[index].type) or pa.types.is_large_binary(type_[index].type)))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type of a value: of a list's elements, of a dictionary's entries."""
    value = type_.value_type if _is_list(type_) else type_
    return value.value_type if pa.types.is_dictionary(value) else value


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _class_names(feature: Any) -> Any:
    element = _element(feature)
    return element.get("names") if _declared(element) == "ClassLabel" else None


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
