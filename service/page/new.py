"""`/new`: upload or choose a model and a dataset, and say what is to be cut."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api_schemas.api.resources import DatasetResource, ModelResource
from api_schemas.enums import ExportFormat, Layout, TargetKind, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import UploadedDataset, UploadedModel
from api_schemas.spec.job import JobRequest
from api_schemas.spec.presets import PRESETS
from api_schemas.spec.pruning import SHARE_OF
from service.access.turns import FairRoute
from service.core import resources
from service.core.uploads import uploads
from service.dependencies import ToReadUploads
from service.page.rendering import answer
from service.routes import datasets, models
from service.services import Services

OFFERED = 100
MOST_STEPS = 12


class Filled(BaseModel):
    """What the address fills in: fields of the form, and uploads that are to go on."""

    model: str = ""
    dataset: str = ""
    preset: str = "best"
    kind: str = "attention_sparsity"
    share: str = "50"
    goal: str = "share"
    within: str = ""
    steps: str = "0"
    epochs: str = ""
    drop: str = ""
    layout: str = ""
    exports: str = ""
    name: str = ""
    labels: str = ""
    model_upload: str = Field("", max_length=64)
    dataset_upload: str = Field("", max_length=64)


router = APIRouter(route_class=FairRoute)


@router.get("/new", include_in_schema=False)
def new_page(services: ToReadUploads, request: Request, filled: Annotated[Filled, Query()]) -> Response:
    """The form, filled in as the address says."""
    given = {
        name: value[:2000] for name, value in filled.model_dump(exclude={"model_upload", "dataset_upload"}).items()
    }
    return answer(
        request,
        "new.html.j2",
        given=given,
        models=_models(services, given["model"]),
        datasets=_datasets(services, given["dataset"]),
        uploads={"model": filled.model_upload, "dataset": filled.dataset_upload},
        presets=tuple(PRESETS),
        kinds={kind: SHARE_OF[kind] for kind in TargetKind},
        formats=tuple(ExportFormat),
        most_steps=MOST_STEPS,
    )


def like(request: JobRequest) -> str | None:
    """The form's address, filled in with what it has fields for; None where it has none for model or dataset."""
    model, dataset, pruning = request.model, request.dataset, request.pruning
    if not (isinstance(model, UploadedModel) and isinstance(dataset, UploadedDataset)):
        return None
    steps, bound = pruning.schedule.steps, pruning.target.max_drop
    labels = [f"{key}={value}" if value else key for key, value in request.labels.items() if "," not in value]
    fields = {
        "model": model.id,
        "dataset": dataset.id,
        "preset": pruning.preset,
        "kind": pruning.target.kind.value,
        "share": f"{100 * pruning.target.share:g}" if bound is None else "",
        "goal": "" if bound is None else "within",
        "within": "" if bound is None else f"{100 * bound:.12g}",
        "steps": str(steps) if steps is not None and steps <= MOST_STEPS else "",
        "epochs": "0" if request.finetune is None else str(request.finetune.epochs),
        "drop": "" if request.stop is None else f"{100 * request.stop.max_drop:g}",
        "layout": "stock" if pruning.layout is Layout.STOCK else "",
        "exports": ",".join(request.exports),
        "labels": ", ".join(labels),
    }
    return f"/new?{urlencode({name: value for name, value in fields.items() if value})}"


def _models(services: Services, chosen: str) -> list[ModelResource]:
    """The newest that are ready, and the one that the address names, however old."""
    found = [each for each in models.list_models(services, None, OFFERED).items if each.state is UploadState.READY]
    if chosen and all(each.id != chosen for each in found):
        try:
            found.append(resources.model(uploads.get(services, "model", chosen), services.settings))
        except SecateurError as error:
            _let_absent_pass(error)
    return found


def _datasets(services: Services, chosen: str) -> list[DatasetResource]:
    """Likewise."""
    found = [each for each in datasets.list_datasets(services, None, OFFERED).items if each.state is UploadState.READY]
    if chosen and all(each.id != chosen for each in found):
        try:
            found.append(resources.dataset(uploads.get(services, "dataset", chosen), services.settings))
        except SecateurError as error:
            _let_absent_pass(error)
    return found


def _let_absent_pass(error: SecateurError) -> None:
    """What an old address names may be gone: then something else is to be chosen."""
    if error.code not in (ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED):
        raise error
