"""The kind of each column of a parquet shard, and the label names of one.

Read from the Arrow schema and, if present, from the `huggingface` metadata that `datasets` writes beside it.
"""

import pyarrow as pa

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.arrow_types import arrow_type, element_type, is_list, is_text
from checkpoints.data.shards.columns import ShardColumn
from checkpoints.data.shards.types import class_names, declared_features, shard_column

MAX_COLUMNS = 256
MAX_LABELS = 65_536

Names = tuple[str, ...]


def read_columns(schema: pa.Schema) -> dict[str, ShardColumn]:
    """Every column of a shard. Raises DATASET_SCHEMA where names repeat or are too many."""
    columns = schema.names
    if len(columns) > MAX_COLUMNS or len(set(columns)) != len(columns):
        raise schema_error(f"a shard needs distinct column names, and at most {MAX_COLUMNS} of them")
    features = declared_features(schema.metadata)
    return {name: shard_column(arrow_type(schema.field(name).type, pa.types), features.get(name)) for name in columns}


def plain(values: pa.Array) -> pa.Array:
    """The same values where they are views of others, or lists of a kind that Arrow's functions do not take, as plain ones."""
    type_ = _plain_type(values.type)
    return values if type_ == values.type else values.cast(type_)


def read_label_names(schema: pa.Schema, column: str) -> Names | None:
    """Names of a label column's ids, as often as it gives them; None where it holds the names themselves, or numbers without.

    Raises DATASET_SCHEMA for another type.
    """
    type_ = schema.field(column).type
    value = element_type(type_, pa.types)
    if is_text(value, pa.types):
        return None
    if not pa.types.is_integer(value):
        raise schema_error(
            f"column {column!r} is {type_}; labels must be text, whole numbers, or ids of a ClassLabel", column
        )
    names = class_names(declared_features(schema.metadata).get(column))
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise schema_error(f"the label names of {column!r} are not a list of texts", column)
    if not 0 < len(names) <= MAX_LABELS:
        raise schema_error(f"{column!r} must have from 1 to {MAX_LABELS} label names", column)
    return tuple(names)


def schema_error(reason: str, *place: str) -> SecateurError:
    """DATASET_SCHEMA with a reason that fits after `The dataset cannot be used: …`. `place`: as of `ErrorItem.at`."""
    item = ErrorItem.at(*place, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}.", (item,))


def _is_other_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_list(type_) or pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_)
    )


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(type_):
        return pa.large_string()
    if pa.types.is_binary_view(type_):
        return pa.large_binary()
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in type_])
    if is_list(type_, pa.types):
        value = _plain_type(type_.value_type)
        return pa.large_list(value) if _is_other_list(type_) or value != type_.value_type else type_
    return type_
