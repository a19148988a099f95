"""What kind of column each column of a parquet shard is, and what the labels of one are called.

Read from the Arrow schema and, where there is one, from the `huggingface` metadata that `datasets` writes beside it.
"""

import pyarrow as pa

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.answers import START, TEXT
from checkpoints.data.shard_columns import ShardColumn
from checkpoints.data.shard_types import ArrowType, Holds, class_names, declared_features, shard_column

MAX_COLUMNS = 256
MAX_LABELS = 65_536

Names = tuple[str, ...]


def read_columns(schema: pa.Schema) -> dict[str, ShardColumn]:
    """Every column of a shard. Raises DATASET_SCHEMA where names repeat or are too many."""
    columns = schema.names
    if len(columns) > MAX_COLUMNS or len(set(columns)) != len(columns):
        raise schema_error(f"a shard needs distinct column names, at most {MAX_COLUMNS}")
    features = declared_features(schema.metadata)
    return {name: shard_column(_arrow_type(schema.field(name).type), features.get(name)) for name in columns}


def plain(values: pa.Array) -> pa.Array:
    """The same values where they are views of others, or lists of a kind that Arrow's functions do not take, as plain ones."""
    type_ = _plain_type(values.type)
    return values if type_ == values.type else values.cast(type_)


def read_label_names(schema: pa.Schema, column: str) -> Names | None:
    """Names of a label column's ids, or None where it holds the names themselves. Raises DATASET_SCHEMA for another type."""
    type_ = schema.field(column).type
    value = _element_type(type_)
    if _is_text(value):
        return None
    if not pa.types.is_integer(value):
        raise schema_error(f"column {column!r} is {type_}; labels are text, or ids of a ClassLabel", column)
    names = class_names(declared_features(schema.metadata).get(column))
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


def _arrow_type(type_: pa.DataType) -> ArrowType:
    return ArrowType(_holds(_element_type(type_)), _is_list(type_), str(type_))


def _holds(type_: pa.DataType) -> Holds:
    if pa.types.is_struct(type_):
        index = type_.get_field_index("bytes")
        if index >= 0 and _is_binary(type_[index].type):
            return Holds.FILE
        return _holds_answers(type_)
    kinds = {
        Holds.TEXT: _is_text,
        Holds.INTEGER: pa.types.is_integer,
        Holds.BYTES: _is_binary,
        Holds.NULL: pa.types.is_null,
    }
    return next((holds for holds, is_kind in kinds.items() if is_kind(type_)), Holds.OTHER)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_))


def _holds_answers(type_: pa.StructType) -> Holds:
    """Of a struct without bytes."""
    places = [type_.get_field_index(name) for name in (TEXT, START)]
    if min(places) < 0:
        return Holds.OTHER
    text, start = (type_[place].type for place in places)
    listed = _is_list(text) and _is_list(start)
    if listed:
        text, start = text.value_type, start.value_type
    # Of lists that are all empty Arrow does not know what is in them.
    texts = _is_text(text) or (listed and pa.types.is_null(text))
    starts = pa.types.is_integer(start) or (listed and pa.types.is_null(start))
    return (Holds.ANSWERS if listed else Holds.ANSWER) if texts and starts else Holds.OTHER


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or _is_other_list(type_))


def _is_other_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_list(type_) or pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_)
    )


def _element_type(type_: pa.DataType) -> pa.DataType:
    """The type of a value: of a list's elements, of a dictionary's entries."""
    value = type_.value_type if _is_list(type_) else type_
    return value.value_type if pa.types.is_dictionary(value) else value


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(type_):
        return pa.large_string()
    if pa.types.is_binary_view(type_):
        return pa.large_binary()
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in type_])
    if _is_list(type_):
        value = _plain_type(type_.value_type)
        return pa.large_list(value) if _is_other_list(type_) or value != type_.value_type else type_
    return type_


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))
