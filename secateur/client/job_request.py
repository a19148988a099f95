"""Converts the arguments of `submit` and `estimate` to a request body.

The service fills in defaults and validates, so a client of another version neither adds nor refuses anything.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypedDict

from pydantic import BaseModel

from api_schemas.errors import ErrorItem
from api_schemas.spec.inputs import Columns, Splits, StepModel
from api_schemas.spec.job import Evaluate, JobRequest, Stop
from api_schemas.spec.job_limits import JobLimits
from api_schemas.spec.pruning import Pruning
from api_schemas.spec.recovery import Finetune
from api_schemas.spec.sweep import SweepRequest
from api_schemas.validation_messages import NO_SUCH_FIELD
from secateur.errors import InvalidRequest
from secateur.near_matches import meant_by, near, paths_of

_NAMES = re.compile(r"(mdl|dst)_[a-z2-7]{26}")


class JobFields(TypedDict, total=False):
    """Fields of a job besides model and data. All except the amount to remove have a default, set by the service."""

    preset: str
    """`best` (the default) or `paper`; sets the defaults of `pruning` and `finetune`."""
    sparsity: float
    """Share of the attention parameters to remove, in (0, 1): short for `pruning={"target": {"attention_sparsity": …}}`."""
    pruning: Pruning | Mapping[str, Any]
    """Target, granularity, criterion, schedule, …: docs/method.md. `{"target": {"max_drop": 0.01}}` requests the smallest model
    that loses at most one point."""
    finetune: Finetune | Mapping[str, Any] | None
    """Recovery after every step; None to skip it."""
    evaluate: Evaluate | Mapping[str, Any]
    stop: Stop | Mapping[str, Any] | None
    """`{"max_drop": 0.01}` ends the job before it loses more than one point."""
    exports: Sequence[str]
    """`onnx`, `onnx_int8`, `torchao_int8`, `torchao_int8_weights`."""
    columns: Columns | Mapping[str, Any]
    """Column names of the dataset."""
    splits: Splits | Mapping[str, Any]
    """Names of the dataset's splits by role."""
    limits: JobLimits | Mapping[str, Any]
    """`{"max_runtime": "6h"}`."""
    name: str
    labels: Mapping[str, str]
    """Labels to find the job by: `client.jobs(labels={"team": "speech"})`."""
    priority: int
    seed: int
    deterministic: bool


@cache
def _paths(sweep: bool) -> tuple[str, ...]:
    """Of every field of a request."""
    return tuple(paths_of((SweepRequest if sweep else JobRequest).model_json_schema()))


def add_near_matches(error: InvalidRequest, sweep: bool = False) -> None:
    """Add to what a service said of a request what was probably meant by fields that do not exist."""
    items, hints = [], []
    for item in error.items:
        path = (item.pointer or "").strip("/").replace("/", ".")
        hint = meant_by(path, _paths(sweep)) if NO_SUCH_FIELD in item.detail else ""
        hints += [hint] if hint else []
        items.append(item.model_copy(update={"detail": f"{item.detail}; {hint}"}) if hint else item)
    if hints:
        error.items, error.detail = tuple(items), f"{error.detail.rstrip('.')}; {hints[0]}"


def _known(fields: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for a keyword that looks like another; what looks like none may be a newer service's."""
    names = (*JobFields.__annotations__, *JobRequest.model_fields)
    for name in fields:
        if name not in names and (meant := near(name, names)) is not None:
            raise _unusable(f"/{name}", f"There is no `{name}`; did you mean `{meant}`?")


def body_of(model: Any, data: Any, spec: JobRequest | Mapping[str, Any] | None, fields: JobFields) -> dict[str, Any]:
    """The JSON of a job request. What is given by itself wins over `spec`. Raises InvalidRequest."""
    _known(fields)
    body: dict[str, Any] = _plain(spec) if spec is not None else {}
    given: dict[str, Any] = {name: _plain(value) for name, value in fields.items()}
    pruning = _pruning(body.get("pruning", {}), given, spec is None)
    if "target" not in pruning:
        raise _unusable("/pruning/target", "Say how much to remove: `sparsity=0.5`, or `pruning={'target': {…}}`.")
    of_data = _of_data(given)
    return _with_inputs(body | {**given, "pruning": pruning}, model, data, of_data)


def sweep_body_of(
    model: Any,
    data: Any,
    spec: Mapping[str, Any] | None,
    methods: str | None,
    grid: Mapping[str, Iterable[Any]] | None,
    specs: Iterable[Mapping[str, Any]] | None,
    fields: JobFields,
) -> dict[str, Any]:
    """The JSON of a sweep's request. `fields` are what all jobs have, but `name`, which is the sweep's. Raises InvalidRequest."""
    _known(fields)
    body: dict[str, Any] = _plain(spec) if spec is not None else {}
    given: dict[str, Any] = {name: _plain(value) for name, value in fields.items()}
    base = body.get("base", {})
    pruning = _pruning(base.get("pruning", {}), given, spec is None)
    of_data = _of_data(given)
    differs = {
        "name": given.pop("name", None),
        "methods": methods,
        "grid": None if grid is None else {path: _plain(list(values)) for path, values in grid.items()},
        "specs": None if specs is None else _plain(list(specs)),
    }
    body |= {name: value for name, value in differs.items() if value is not None}
    common = {**base, **given, **({"pruning": pruning} if pruning else {})}
    return _with_inputs(body | ({"base": common} if common else {}), model, data, of_data)


def _pruning(before: Mapping[str, Any], given: dict[str, Any], whole: bool) -> dict[str, Any]:
    """What is `given` of it over what was there `before`; taken out of `given`. `whole`: nothing else says how much."""
    pruning = {**before, **(given.pop("pruning", None) or {})}
    if "preset" in given:
        pruning["preset"] = given.pop("preset")
    if "sparsity" in given:
        if "target" in pruning and whole:
            raise _unusable(
                "/pruning/target", "`sparsity` and `pruning['target']` both set the target: give only one of them."
            )
        pruning["target"] = {"attention_sparsity": given.pop("sparsity")}
    return pruning


def _of_data(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given.pop(name) for name in ("columns", "splits") if name in given}


def _with_inputs(body: dict[str, Any], model: Any, data: Any, of_data: Mapping[str, Any]) -> dict[str, Any]:
    if model is not None:
        body["model"] = _reference(model, "model", "mdl")
    if data is not None:
        body["dataset"] = _reference(data, "dataset", "dst")
    for name in ("model", "dataset"):
        if name not in body:
            raise _unusable(
                f"/{name}", f"A job needs a {name}: what `client.upload_{name}(…)` returned, its id, or a reference."
            )
    if of_data:
        body["dataset"] = {**body["dataset"], **of_data}
    return body


def _reference(given: Any, what: str, prefix: str) -> Any:
    """A model or dataset as a request names it: an upload by object or id, a reference, a checkpoint of a job."""
    step = getattr(given, "reference", None)
    if isinstance(step, StepModel):
        return _plain(step)
    if isinstance(given, Mapping) or (isinstance(given, BaseModel) and hasattr(given, "type")):
        return _plain(given)
    name = given if isinstance(given, str) else getattr(given, "id", None)
    if isinstance(name, str) and (match := _NAMES.fullmatch(name)) and match[1] == prefix:
        return {"type": "upload", "id": name}
    detail = (
        f"{given!r} is not a {what} on the service. Upload it first (`client.upload_{what}(…)`), or give an id ({prefix}_…) or a "
        "reference such as {'type': 'hf', 'id': 'owner/name', 'revision': '<commit>'}."
    )
    raise _unusable(f"/{what}", detail)


def _plain(value: Any) -> Any:
    """As JSON: of a model of the contract what was set."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _unusable(pointer: str, detail: str) -> InvalidRequest:
    item = ErrorItem(pointer=pointer, code="invalid_request", detail=detail)
    return InvalidRequest(detail, code="invalid_request", items=(item,))
