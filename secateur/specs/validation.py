"""Validates a spec before anything is sent; errors have the service's words, with the nearest known name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api_schemas import validation_messages
from api_schemas.errors import ErrorItem
from secateur.errors import InvalidRequest
from secateur.near_matches import instead, paths_of

M = TypeVar("M", bound=BaseModel)


def validated(kind: type[M], spec: Mapping[str, Any], file: Path | None) -> M:
    """The spec as the contract has it, defaults filled in; `file` is where most of it stands.

    Raises InvalidRequest with a pointer for everything that is wrong.
    """
    try:
        return kind.model_validate_json(json.dumps(spec))
    except ValidationError as error:
        paths = list(paths_of(kind.model_json_schema()))
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
        detail = f"{validation_messages.NO_SUCH_FIELD}; {instead(place.strip('/').replace('/', '.'), paths)}"
    return ErrorItem(pointer=place, code="invalid_request", detail=detail)
