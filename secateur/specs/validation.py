"""A spec held against the contract before anything is sent; what is wrong is said as the service says it, with the near match."""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api_schemas import validation_messages
from api_schemas.errors import ErrorItem
from secateur.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)
_SHOWN = 12


def validated(kind: type[M], spec: Mapping[str, Any], file: Path | None) -> M:
    """The spec as the contract has it, defaults filled in; `file` is where most of it stands.

    Raises InvalidRequest with a pointer for everything that is wrong.
    """
    try:
        return kind.model_validate_json(json.dumps(spec))
    except ValidationError as error:
        paths = list(_paths(kind.model_json_schema()))
        found = validation_messages.without_echoes(error.errors(include_url=False))
        items = tuple(_item(each, spec, paths) for each in found)
    first = f"{items[0].pointer}: {items[0].detail}".lstrip(": ")
    more = f" ({len(items) - 1} more)" if len(items) > 1 else ""
    source = f"{file} with the options: " if file else ""
    raise InvalidRequest(f"{source}{first}{more}", code="invalid_request", items=items)


def _item(found: Mapping[str, Any], spec: Mapping[str, Any], paths: Sequence[str]) -> ErrorItem:
    place = validation_messages.pointer(found["loc"], spec)
    detail = validation_messages.reason(found)
    if found["type"] == "extra_forbidden":
        detail = f"there is no such field; {_instead(place.strip('/').replace('/', '.'), paths)}"
    return ErrorItem(pointer=place, code="invalid_request", detail=detail)


def _instead(path: str, paths: Sequence[str]) -> str:
    """The known path that was probably meant, or what there is in its place."""
    parent, _, name = path.rpartition(".")
    beside = [each for each in paths if each.rpartition(".")[0] == parent]
    if elsewhere := [each for each in paths if each.rpartition(".")[2] == name]:
        inside = [each for each in elsewhere if each.startswith(f"{parent}.")]
        return f"did you mean {' or '.join((inside or elsewhere)[:3])}?"
    names = [each.rpartition(".")[2] for each in beside]
    if near := get_close_matches(name, names, 1):
        return f"did you mean {f'{parent}.{near[0]}' if parent else near[0]}?"
    return f"there are {', '.join(names[:_SHOWN])}{' and more' if len(names) > _SHOWN else ''}"


def _paths(schema: Mapping[str, Any]) -> Iterator[str]:
    """The path of every field, `pruning` and `pruning.target` and `pruning.target.flops`."""
    seen: set[str] = set()

    def walk(node: Mapping[str, Any], before: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
            yield from walk(choice, before)
        for name, field in node.get("properties", {}).items():
            path = f"{before}{name}"
            if path not in seen:
                seen.add(path)
                yield path
            yield from walk(field, f"{path}.")

    yield from walk(schema, "")
