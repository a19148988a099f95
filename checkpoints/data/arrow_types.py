"""The type of an Arrow column in the terms of shard_types.py, without importing Arrow: the API has none, so callers pass its
functions."""

from typing import Any

from checkpoints.data.answers import START, TEXT
from checkpoints.data.shards.types import ArrowType, Holds

_LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
_TEXTS = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")


def arrow_type(type_: Any, types: Any) -> ArrowType:
    """Of a `pyarrow.DataType`. `types`: the module `pyarrow.types`."""
    return ArrowType(_holds(element_type(type_, types), types), is_list(type_, types), str(type_))


def is_list(type_: Any, types: Any) -> bool:
    """Whether values are lists, of whichever kind."""
    return _is_any(_LISTS, type_, types)


def is_text(type_: Any, types: Any) -> bool:
    """Whether values are texts."""
    return _is_any(_TEXTS, type_, types)


def element_type(type_: Any, types: Any) -> Any:
    """The type of a value: of a list's elements, of a dictionary's entries."""
    value = type_.value_type if is_list(type_, types) else type_
    return value.value_type if types.is_dictionary(value) else value


def _holds(type_: Any, types: Any) -> Holds:
    if types.is_struct(type_):
        index = type_.get_field_index("bytes")
        if index >= 0 and _is_any(_BYTES, type_[index].type, types):
            return Holds.FILE
        return _holds_answers(type_, types)
    if is_text(type_, types):
        return Holds.TEXT
    if types.is_integer(type_):
        return Holds.INTEGER
    if _is_any(_BYTES, type_, types):
        return Holds.BYTES
    return Holds.NULL if types.is_null(type_) else Holds.OTHER


def _holds_answers(type_: Any, types: Any) -> Holds:
    """Of a struct without bytes."""
    places = [type_.get_field_index(name) for name in (TEXT, START)]
    if min(places) < 0:
        return Holds.OTHER
    text, start = (type_[place].type for place in places)
    listed = is_list(text, types) and is_list(start, types)
    if listed:
        text, start = text.value_type, start.value_type
    # Of lists that are all empty Arrow does not know what is in them.
    texts = is_text(text, types) or (listed and types.is_null(text))
    starts = types.is_integer(start) or (listed and types.is_null(start))
    return (Holds.ANSWERS if listed else Holds.ANSWER) if texts and starts else Holds.OTHER


def _is_any(kinds: tuple[str, ...], type_: Any, types: Any) -> bool:
    return any(getattr(types, f"is_{kind}")(type_) for kind in kinds)
