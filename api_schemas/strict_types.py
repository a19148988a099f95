"""Numbers are numbers: what Pydantic would take for one (`"5"`, `true`) and for a truth (`"yes"`, `1`) is refused.

Its own strict mode would go too far: it takes no list for a tuple and no name for a member of an enum.
"""

from typing import Any

from pydantic_core import PydanticKnownError, core_schema

_DONE = "secateur_exact"


def with_strict_types(schema: Any) -> Any:
    """A core schema of Pydantic's, or part of one, with every number and truth in it exact."""
    if isinstance(schema, list | tuple):
        return type(schema)(with_strict_types(each) for each in schema)
    if not isinstance(schema, dict) or schema.get("metadata", {}).get(_DONE):
        return schema
    kind = schema.get("type")
    if kind == "bool":
        return schema | {"strict": True}
    if kind in ("int", "float"):
        check = _for_int if kind == "int" else _for_float
        return core_schema.no_info_before_validator_function(check, schema, metadata={_DONE: True})
    if kind == "literal" and all(type(each) is int for each in schema["expected"]):
        return core_schema.no_info_before_validator_function(_for_int, schema, metadata={_DONE: True})
    return {key: with_strict_types(value) for key, value in schema.items()}


def _for_int(given: Any) -> Any:
    if isinstance(given, bool | str):
        raise PydanticKnownError("int_type")
    return given


def _for_float(given: Any) -> Any:
    if isinstance(given, bool | str):
        raise PydanticKnownError("float_type")
    return given
