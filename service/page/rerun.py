"""A job's request as a filled-in form: what the form has fields for, and the rest as JSON."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from api_schemas.enums import Granularity, Layout
from api_schemas.errors import SecateurError
from api_schemas.formatting import plain
from api_schemas.spec.inputs import BucketModel, HubDataset, HubModel, ModelReference, StepModel, UploadedModel
from api_schemas.spec.job import JobRequest
from checkpoints.planning.settled import settled
from service.core.jobs import model_source
from service.page.form_fields import OF_PARTS, PARTS
from service.page.rendering import visible_json
from service.services import Services

Path = tuple[str, ...]
Settle = Callable[[JobRequest], JobRequest]

_ALWAYS: tuple[Path, ...] = (
    ("model",), ("dataset", "type"), ("dataset", "id"), ("dataset", "revision"), ("pruning", "preset"), ("pruning", "target"),
)  # fmt: skip
"""Fields that a request cannot be without, or that the form always sends."""


def fields_of(request: JobRequest, settle: Settle) -> dict[str, str]:
    """The form's fields, and as `rest` the JSON of what they cannot say.

    `settle`: what the service makes of a request for this model. Whatever the defaults are, the request that the form then sends
    is the one given: nothing is left out of it unless the request without it has been tried and is the same.
    """
    pruning, bound = request.pruning, request.pruning.target.max_drop
    rest = asked_of(request, settle)
    fields = {"preset": pruning.preset, "kind": pruning.target.kind.value}
    _take(rest, ("pruning", "preset"))
    _take(rest, ("model",))
    fields |= _model_fields(request.model) | _dataset_fields(request, rest)
    if bound is None:
        fields["share"] = _percent(pruning.target.share)
        _take(rest, ("pruning", "target", pruning.target.kind))
        if pruning.schedule.steps is not None:
            fields["steps"] = str(_take(rest, ("pruning", "schedule", "steps")))
        if request.stop is not None:
            fields["drop"] = _percent(request.stop.max_drop)
            _take(rest, ("stop",))
    else:
        fields |= {"goal": "within", "within": _percent(bound)}
        _take(rest, ("pruning", "target"))
    if pruning.target.kind in OF_PARTS:
        # Of attention alone the form says nothing, as it is what a request means that names no parts.
        fields["parts"] = next(name for name, parts in PARTS.items() if frozenset(parts) == pruning.cuts)
        if fields["parts"] != "attention":
            _take(rest, ("pruning", "parts"))
    fields["epochs"] = "0" if request.finetune is None else str(request.finetune.epochs)
    _take(rest, ("finetune",) if request.finetune is None else ("finetune", "epochs"))
    if pruning.layout is Layout.STOCK:
        fields["layout"] = "stock"
        _take(rest, ("pruning", "layout"))
        if _take(rest, ("pruning", "granularity")) != Granularity.PER_HEAD:
            fields["granularity"] = pruning.granularity.value
    fields["exports"] = ",".join(_take(rest, ("exports",)) or ())
    for field, path in _ADVANCED.items():
        if (value := _take(rest, path)) is not None:
            fields[field] = str(value)
    _say(fields, rest, "name", ("name",))
    _say_labels(fields, rest)
    return {name: value for name, value in fields.items() if value} | ({"rest": visible_json(rest)} if rest else {})


_ADVANCED: dict[str, Path] = {
    "granularity": ("pruning", "granularity"),
    "criterion": ("pruning", "criterion"),
    "basis": ("pruning", "basis"),
    "only": ("pruning", "only"),
    "calibration_split": ("pruning", "calibration", "split"),
    "calibration_samples": ("pruning", "calibration", "samples"),
    "calibration_answers": ("pruning", "calibration", "labels"),
}


def settling(services: Services, reference: ModelReference) -> Settle:
    """What a job of this model has settled. Of a model that cannot be looked into, and of one that is gone, nothing."""
    try:
        known = model_source.find(services, reference).known
    except SecateurError:
        known = None
    if known is None:
        return lambda request: request
    shape, layout = known.shape, known.layout
    return lambda request: settled(request, shape, layout.widths, layout.head)


def asked_of(request: JobRequest, settle: Settle) -> dict[str, Any]:
    """The request as JSON, without whatever can be left out of it."""
    same = _Same(request, settle)
    body = request.model_dump(mode="json")
    target = body["pruning"]["target"]
    body["pruning"]["target"] = {name: value for name, value in target.items() if value is not None}
    kept = [*_ALWAYS, *([("pruning", "granularity")] if request.pruning.layout is Layout.STOCK else [])]
    shorter = True
    # What can be left out may depend on what else was: defaults follow from other fields.
    while shorter:
        shorter = False
        for path in list(_paths(body)):
            if any(path[: len(each)] == each or each[: len(path)] == path for each in kept) or not _has(body, path):
                continue
            less = _without(body, path)
            if same(less):
                body, shorter = less, True
    return body


class _Same:
    """Whether a body makes the same job."""

    def __init__(self, request: JobRequest, settle: Settle) -> None:
        self.request, self.settle = request, settle
        self.known: dict[tuple[bool, bool], bool] = {}

    def __call__(self, body: Mapping[str, Any]) -> bool:
        try:
            tried = JobRequest.model_validate(body)
        except ValidationError:
            return False
        given, own = tried.pruning, self.request.pruning
        open_ones = {name: getattr(own, name) for name in ("criterion", "align") if getattr(given, name) is None}
        filled = tried.model_copy(update={"pruning": given.model_copy(update=open_ones)})
        if filled != self.request:
            return False
        # Settling counts the model's structures, and depends on no other field of those that may be missing.
        key = (given.criterion is None, given.align is None)
        if key not in self.known:
            self.known[key] = self.settle(tried) == self.settle(self.request)
        return self.known[key]


def _paths(body: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    """Of every field, an object before its own."""
    for name, value in body.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _paths(value, (*above, name))


def _has(body: Any, path: Path) -> bool:
    for name in path:
        if not isinstance(body, dict) or name not in body:
            return False
        body = body[name]
    return True


def _without(body: Mapping[str, Any], path: Path) -> dict[str, Any]:
    first, *others = path
    if others:
        return {**body, first: _without(body[first], tuple(others))}
    return {name: value for name, value in body.items() if name != first}


def _take(body: dict[str, Any], path: Path) -> Any:
    """The value there, which is gone then, as are objects left empty; None where there is none."""
    first, *others = path
    if first not in body:
        return None
    if not others:
        return body.pop(first)
    if not isinstance(body[first], dict):
        return None
    found = _take(body[first], tuple(others))
    if not body[first]:
        del body[first]
    return found


def _say(fields: dict[str, str], rest: dict[str, Any], field: str, path: Path) -> None:
    """A text in its field, unless a field of a page cannot hold it as it is: then it stays in the rest."""
    value = _take(rest, path)
    if value is None:
        return
    if plain(value) == value:
        fields[field] = value
    else:
        for name in path[:-1]:
            rest = rest.setdefault(name, {})
        rest[path[-1]] = value


def _say_labels(fields: dict[str, str], rest: dict[str, Any]) -> None:
    others, text = {}, ""
    for key, value in (_take(rest, ("labels",)) or {}).items():
        more = ", ".join(filter(None, (text, f"{key}={value}" if value else key)))
        if "," in value or value != value.strip() or plain(more) != more:
            others[key] = value
        else:
            text = more
    fields["labels"] = text
    if others:
        rest["labels"] = others


def _model_fields(reference: ModelReference) -> dict[str, str]:
    match reference:
        case UploadedModel():
            return {"model": reference.id}
        case StepModel():
            return {"model_from": "step", "model_step": f"{reference.job}/{reference.step}"}
        case HubModel():
            return {"model_from": "hf", "model_hub": reference.id, "model_revision": reference.revision}
        case BucketModel():
            return {"model_from": "s3", "model_bucket": reference.bucket, "model_prefix": reference.prefix}


def _dataset_fields(request: JobRequest, rest: dict[str, Any]) -> dict[str, str]:
    dataset = request.dataset
    fields = {"dataset": dataset.id}
    for name in ("type", "id", "revision"):
        _take(rest, ("dataset", name))
    if isinstance(dataset, HubDataset):
        fields = {"dataset_from": "hf", "dataset_hub": dataset.id, "dataset_revision": dataset.revision}
        _say(fields, rest, "dataset_config", ("dataset", "config"))
    for name in dataset.columns.named():
        _say(fields, rest, f"columns_{name}", ("dataset", "columns", name))
    for name in type(dataset.splits).model_fields:
        _say(fields, rest, f"splits_{name}", ("dataset", "splits", name))
    return fields


def _percent(share: float) -> str:
    """100 times a share to its last digit, which binary arithmetic would lose."""
    return format((Decimal(repr(share)) * 100).normalize(), "f")
