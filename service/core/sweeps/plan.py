"""From the request of a sweep to the requests of its jobs, and from an error in one of these back to its place in the sweep's
request."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from api_schemas import validation_messages
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.job import JobRequest
from api_schemas.spec.sweep import METHODS, MOST_JOBS, SweepRequest
from api_schemas.validation_messages import json_pointer

_OF_THE_SWEEP = ("model", "dataset")
_WHOLE = "target"
"""A target names one share: half of one and half of another are none."""
_LABEL_LENGTH = 128
_PLAIN = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True)
class Spec:
    """One job of a sweep before it is checked."""

    label: str
    changes: Mapping[str, Any]
    """Beside what all jobs have."""
    body: Mapping[str, Any]
    """Of its request."""
    listed: int | None = None
    """Its place in `specs`, where it is one of these."""
    chosen: Mapping[str, int] = field(default_factory=dict)
    """Else, by path, the place of the grid's value."""


def plan(request: SweepRequest) -> tuple[Spec, ...]:
    """The jobs, none of them checked by itself. Raises INVALID_REQUEST where the sweep is none, or too large."""
    if request.specs and (request.grid or request.methods):
        raise _refused(("specs",), "specs is an alternative to methods and grid: give either specs or the other two")
    if not (request.specs or request.grid or request.methods):
        raise _refused((), "a sweep needs methods, a grid or specs")
    foreign: list[tuple[str | int, ...]] = [("base", name) for name in _OF_THE_SWEEP if name in request.base]
    foreign += [("specs", i, name) for i, each in enumerate(request.specs) for name in _OF_THE_SWEEP if name in each]
    foreign += [("grid", path) for path in request.grid if path.split(".")[0] in _OF_THE_SWEEP]
    if foreign:
        raise _refused(
            foreign[0],
            "all jobs of a sweep use the same model and dataset; set them at the top level, not in base, specs or grid",
        )
    common = {name: getattr(request, name).model_dump(mode="json", exclude_unset=True) for name in _OF_THE_SWEEP}
    return tuple(_specs(request, common))


def checked(specs: Sequence[Spec], request: SweepRequest) -> tuple[JobRequest, ...]:
    """Their requests. Raises INVALID_REQUEST with the place of everything that is wrong with any."""
    found: list[JobRequest] = []
    errors: list[ErrorItem] = []
    for spec in specs:
        try:
            found.append(JobRequest.model_validate(spec.body))
        except ValidationError as error:
            for each in validation_messages.without_echoes(error.errors(include_url=False)):
                path = _parts(validation_messages.pointer(each["loc"], spec.body))
                detail = validation_messages.reason(each)[:500]
                errors.append(placed(ErrorItem.at(*path, code=ErrorCode.INVALID_REQUEST, detail=detail), spec, request))
    raise_all(errors)
    return tuple(found)


def placed(item: ErrorItem, spec: Spec, request: SweepRequest) -> ErrorItem:
    """An error of a job's request, at the place of the sweep's that it comes from."""
    path = _parts(item.pointer)
    place, exact = _place(path, spec, request)
    detail = item.detail if exact else f"{spec.label}: {item.detail}"
    return ErrorItem(pointer=json_pointer(place), code=item.code, detail=detail)


def of_inputs(item: ErrorItem) -> bool:
    """Whether its pointer leads into a file of the model, or to a row of the data, and not into the request."""
    return bool(item.pointer) and _parts(item.pointer)[0] not in JobRequest.model_fields


def raise_all(errors: Iterable[ErrorItem]) -> None:
    """Raises all of them as one where there are any: what is wrong with all jobs alike is said once."""
    items = tuple(dict.fromkeys(errors))
    if not items:
        return
    codes = {item.code for item in items}
    code = ErrorCode(codes.pop()) if len(codes) == 1 else ErrorCode.INVALID_REQUEST
    first = f"{items[0].pointer}: {items[0].detail}".lstrip(": ").rstrip(".")
    more = f" ({len(items) - 1} more in `errors`)" if len(items) > 1 else ""
    raise SecateurError(code, f"{first}{more}.", items)


def same_as(first: Spec, again: Spec, request: SweepRequest) -> ErrorItem:
    """That two jobs would do the same."""
    place, _ = _place((), again, request)
    detail = f"{again.label} is identical to {first.label}; remove one of them"
    return ErrorItem(pointer=json_pointer(place), code=ErrorCode.INVALID_REQUEST, detail=detail)


def _specs(request: SweepRequest, common: Mapping[str, Any]) -> Iterator[Spec]:
    for number, given in enumerate(request.specs):
        name = given.get("name")
        label = name if isinstance(name, str) else _label(_leaves(given)) or f"spec {number}"
        yield Spec(_short(label), given, {**_merged(request.base, given), **common}, number)
    if request.specs:
        return
    paths = {path: path.split(".") for path in request.grid}
    for path, parts in paths.items():
        above = [other for other, its in paths.items() if other != path and parts[: len(its)] == its]
        if above or not all(parts):
            detail = (
                f"already set by {above[0]}" if above else "must be the path of a field, such as pruning.granularity"
            )
            raise _refused(("grid", path), detail)
        texts = [json.dumps(value, sort_keys=True) for value in request.grid[path]]
        for index, text in enumerate(texts):
            if text in texts[:index]:
                raise _refused(("grid", path, index), "duplicate value: two jobs would be identical")
    methods = METHODS[request.methods] if request.methods else (("", {}),)
    if (jobs := len(methods) * math.prod(map(len, request.grid.values()))) > MOST_JOBS:
        raise _refused(
            ("grid",) if request.grid else ("methods",), f"this makes {jobs} jobs; the maximum is {MOST_JOBS}"
        )
    places = itertools.product(*(range(len(values)) for values in request.grid.values()))
    names = _short_names(request.grid)
    for (method, pruning), chosen in itertools.product(methods, list(places)):
        changes: dict[str, Any] = {"pruning": dict(pruning)} if method else {}
        told = [method] if method else []
        for (path, values), index in zip(request.grid.items(), chosen, strict=True):
            _put(changes, paths[path], values[index])
            if len(values) > 1 or not method:
                told.append(f"{names[path]}={_text(values[index])}")
        body = {**_merged(request.base, changes), **common}
        yield Spec(_short(", ".join(told)), changes, body, None, dict(zip(request.grid, chosen, strict=True)))


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What `changes` says wins, inside of objects too."""
    result = {**base, **changes}
    for name, inner in changes.items():
        before = base.get(name)
        if isinstance(inner, dict) and isinstance(before, dict) and name != _WHOLE:
            result[name] = _merged(before, inner)
    return result


def _put(into: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    for part in parts[:-1]:
        into = into.setdefault(part, {})
    into[parts[-1]] = value


def _place(path: Sequence[str], spec: Spec, request: SweepRequest) -> tuple[Sequence[str | int], bool]:
    """Where in the sweep's request that was said, and whether nothing but that place is meant."""
    if path and path[0] in _OF_THE_SWEEP:
        return path, True
    if spec.listed is not None:
        here, below = _depth(request.specs[spec.listed], path), _depth(request.base, path)
        return (("base", *path), True) if below > here else (("specs", spec.listed, *path), True)
    for name, index in spec.chosen.items():
        parts = name.split(".")
        if list(path[: len(parts)]) == parts:
            return ("grid", name, index, *path[len(parts) :]), True
    if path and _depth(request.base, path) == len(path) and _depth(spec.changes, path) < len(path):
        return ("base", *path), True
    if path and not _depth(spec.changes, path):
        return ("base", *path), True
    return ("grid",) if request.grid else ("methods",), False


def _depth(document: Any, path: Sequence[str]) -> int:
    """How far a path leads into a document."""
    for number, part in enumerate(path):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list | tuple) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return number
    return len(path)


def _parts(pointer: str) -> tuple[str, ...]:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    """The last part of each path, where no other path ends in it."""
    ends = [path.rpartition(".")[2] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}


def _leaves(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value)
        else:
            yield name, value


def _label(leaves: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{_text(name)}={_text(value)}" for name, value in leaves)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value)


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"


def _refused(place: Sequence[str | int], detail: str) -> SecateurError:
    item = ErrorItem(pointer=json_pointer(place), code=ErrorCode.INVALID_REQUEST, detail=detail)
    return SecateurError(ErrorCode.INVALID_REQUEST, f"{item.pointer}: {detail}.".lstrip(": "), (item,))
