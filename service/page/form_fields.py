"""The fields of the form of a new job, as its address carries them; and the address that fills in what a job asked for."""

from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel

from api_schemas.enums import Head, Layout, Part, TargetKind
from api_schemas.ids import DatasetId, ModelId
from api_schemas.spec.inputs import BucketModel, HubDataset, HubModel, ModelReference, StepModel, UploadedModel
from api_schemas.spec.job import JobRequest
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.settled import criterion_of

MOST_STEPS = 12
MOST_SHARE = 95
"""Percent, where the slider ends (static/new/limits.js)."""
OF_PARTS = (TargetKind.PARAMETERS, TargetKind.FLOPS, TargetKind.LATENCY)
"""Targets that do not say by themselves what is cut."""
PARTS: dict[str, tuple[Part, ...]] = {
    "both": (Part.ATTENTION, Part.FEED_FORWARD),
    "attention": (Part.ATTENTION,),
    "feed_forward": (Part.FEED_FORWARD,),
}

_SETTLED = tuple(criterion_of(head) for head in Head)


class Filled(BaseModel):
    """What the address fills in: fields of the form, and uploads that are to go on."""

    model_from: str = "upload"
    model: str = ""
    model_step: str = ""
    model_hub: str = ""
    model_revision: str = ""
    model_bucket: str = ""
    model_prefix: str = ""
    dataset_from: str = "upload"
    dataset: str = ""
    dataset_hub: str = ""
    dataset_revision: str = ""
    dataset_config: str = ""
    preset: str = "best"
    kind: str = "attention_sparsity"
    parts: str = "both"
    only: str = ""
    share: str = "50"
    goal: str = "share"
    within: str = ""
    steps: str = "0"
    epochs: str = ""
    drop: str = ""
    layout: str = ""
    exports: str = ""
    granularity: str = ""
    criterion: str = ""
    basis: str = ""
    calibration_split: str = ""
    calibration_samples: str = ""
    calibration_answers: str = ""
    columns_input: str = ""
    columns_input_pair: str = ""
    columns_label: str = ""
    columns_group: str = ""
    splits_train: str = ""
    splits_validation: str = ""
    splits_test: str = ""
    name: str = ""
    labels: str = ""
    # The page calls addresses with these in them, with the rights of the session: nothing but an identifier may come through.
    model_upload: ModelId | Literal[""] = ""
    dataset_upload: DatasetId | Literal[""] = ""


def like(request: JobRequest) -> str:
    """The form's address, filled in with what it has fields for."""
    pruning, bound = request.pruning, request.pruning.target.max_drop
    steps = pruning.schedule.steps
    labels = [f"{key}={value}" if value else key for key, value in request.labels.items() if "," not in value]
    fields = {
        **_model_fields(request.model),
        **_dataset_fields(request),
        "preset": pruning.preset,
        "kind": pruning.target.kind.value,
        "parts": _parts(pruning),
        "only": pruning.only or "",
        "share": f"{100 * pruning.target.share:.12g}" if bound is None else "",
        "goal": "" if bound is None else "within",
        "within": "" if bound is None else f"{100 * bound:.12g}",
        "steps": str(steps) if steps is not None and steps <= MOST_STEPS else "",
        "epochs": "0" if request.finetune is None else str(request.finetune.epochs),
        "drop": "" if request.stop is None else f"{100 * request.stop.max_drop:.12g}",
        "layout": "stock" if pruning.layout is Layout.STOCK else "",
        "exports": ",".join(request.exports),
        **_as_asked(pruning),
        "labels": ", ".join(labels),
    }
    return f"/new?{urlencode({name: value for name, value in fields.items() if value})}"


def _parts(pruning: Pruning) -> str:
    if pruning.target.kind not in OF_PARTS:
        return ""
    return next(name for name, parts in PARTS.items() if frozenset(parts) == pruning.cuts)


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


def _dataset_fields(request: JobRequest) -> dict[str, str]:
    dataset = request.dataset
    fields = {"dataset": dataset.id}
    if isinstance(dataset, HubDataset):
        fields = {"dataset_from": "hf", "dataset_hub": dataset.id, "dataset_revision": dataset.revision}
        fields["dataset_config"] = dataset.config or ""
    for key, given, usual in (
        ("columns", dataset.columns.named(), {}),
        ("splits", dataset.splits.model_dump(), type(dataset.splits)().model_dump()),
    ):
        fields |= {f"{key}_{name}": value for name, value in given.items() if value != usual.get(name)}
    return fields


def _as_asked(pruning: Pruning) -> dict[str, str]:
    """The advanced fields, of what is not as the preset alone would have it."""
    usual = Pruning.model_validate({"preset": pruning.preset, "target": pruning.target})
    fields: dict[str, Any] = {}
    for name in ("granularity", "criterion", "basis"):
        value = getattr(pruning, name)
        # Jobs keep the criterion that was settled for their model where it was left open.
        left_open = _SETTLED if name == "criterion" and usual.criterion is None else ()
        if value not in (None, getattr(usual, name), *left_open):
            fields[name] = value.value
    if pruning.layout is Layout.STOCK and fields.get("granularity") == "per_head":
        del fields["granularity"]
    own, other = pruning.calibration, usual.calibration
    for name, value, before in (
        ("calibration_split", own.split, other.split),
        ("calibration_samples", own.samples, other.samples),
        ("calibration_answers", own.labels, other.labels),
    ):
        if value != before and value is not None:
            fields[name] = str(value)
    return fields
