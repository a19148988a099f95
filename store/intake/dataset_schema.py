"""Which columns of a parquet shard hold the audio and the labels, and what the labels are called.

Read from the Arrow schema and, where there is one, from the `huggingface` metadata that `datasets` writes beside it.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.inputs import Columns

MAX_COLUMNS = 256
MAX_LABELS = 65_536
LABEL_NAMES = ("label", "labels")


@dataclass(frozen=True)
class Schema:
    """The two columns that matter. `names` are label names by id; None where labels are text."""

    columns: tuple[str, ...]
    input_column: str
    label_column: str
    multi_label: bool
    names: tuple[str, ...] | None


def read_schema(schema: pa.Schema, wanted: Columns) -> Schema:
    """Find the columns, by the names in `wanted` or by type and usual name. Raises DATASET_SCHEMA."""
    columns = tuple(schema.names)
    if len(columns) > MAX_COLUMNS or len(set(columns)) != len(columns):
        raise schema_error(f"a shard needs distinct column names, at most {MAX_COLUMNS}")
    features = _features(schema)
    input_column = _input_column(schema, features, wanted.input)
    label_column = _label_column(schema, features, wanted.label)
    if wanted.group is not None and wanted.group not in columns:
        raise schema_error(f"there is no column {wanted.group!r}; there are {', '.join(columns)}", wanted.group)
    multi_label, names = _labels(schema.field(label_column).type, features.get(label_column), label_column)
    return Schema(columns, input_column, label_column, multi_label, names)


def schema_error(reason: str, pointer: str = "") -> SecateurError:
    """DATASET_SCHEMA with a reason that fits after `The dataset cannot be used: …`."""
    item = ErrorItem(pointer=pointer, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}.", (item,))


def _features(schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}  # Not what `datasets` writes: then the Arrow types alone speak.
    return features if isinstance(features, dict) else {}


def _is_audio(type_: pa.DataType) -> bool:
    if not pa.types.is_struct(type_):
        return False
    index = type_.get_field_index("bytes")
    return bool(index >= 0 and (pa.types.is_binary(type_[index].type) or pa.types.is_large_binary(type_[index].type)))


def _input_column(schema: pa.Schema, features: dict[str, Any], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise schema_error(f"there is no column {wanted!r}; there are {', '.join(schema.names)}", wanted)
        if not _is_audio(schema.field(wanted).type):
            raise schema_error(f"column {wanted!r} holds no audio (a struct with `bytes`)", wanted)
        return wanted
    audio = [name for name in schema.names if _is_audio(schema.field(name).type)]
    declared = [name for name in audio if _kind(features.get(name)) == "Audio"]
    found = declared or audio
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise schema_error(
            f"no column holds embedded audio (a struct with `bytes` and `path`); there are {', '.join(schema.names)}"
        )
    raise schema_error(f"several columns hold audio ({', '.join(found)}); name one in `columns.input`")


def _label_column(schema: pa.Schema, features: dict[str, Any], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise schema_error(f"there is no column {wanted!r}; there are {', '.join(schema.names)}", wanted)
        return wanted
    for name in LABEL_NAMES:
        if name in schema.names:
            return str(name)
    declared = [name for name in schema.names if _kind(_element(features.get(name))) == "ClassLabel"]
    if len(declared) == 1:
        return str(declared[0])
    raise schema_error(f"no column is called `label` or `labels`; name one in `columns.label` of {schema.names}")


def _labels(type_: pa.DataType, feature: Any, column: str) -> tuple[bool, tuple[str, ...] | None]:
    """Whether a row has several labels, and the names of the ids where labels are ids."""
    multi = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    value = type_.value_type if multi else type_
    if pa.types.is_dictionary(value):
        value = value.value_type
    if pa.types.is_string(value) or pa.types.is_large_string(value):
        return multi, None
    if not pa.types.is_integer(value):
        raise schema_error(f"column {column!r} is {type_}; labels are text, or ids of a ClassLabel", column)
    element = _element(feature)
    names = element.get("names") if _kind(element) == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise schema_error(
            f"column {column!r} holds numbers without names; write labels as text, or with the ClassLabel feature of "
            "`datasets`, since they are matched with the checkpoint's by name",
            column,
        )
    if not 0 < len(names) <= MAX_LABELS or len(set(names)) != len(names):
        raise schema_error(f"the label names of {column!r} are not distinct, or not 1 to {MAX_LABELS}", column)
    return multi, tuple(names)


def _kind(feature: Any) -> str | None:
    kind = feature.get("_type") if isinstance(feature, dict) else None
    return kind if isinstance(kind, str) else None


def _element(feature: Any) -> Any:
    """What a list feature is a list of: `datasets` has written it in three ways. A feature that is none comes back."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    if _kind(feature) in ("Sequence", "List", "LargeList"):
        return feature.get("feature")
    return feature if isinstance(feature, dict) else {}
