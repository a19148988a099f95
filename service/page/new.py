"""`/new`: upload or choose a model and a dataset, and say what is to be cut."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api_schemas.enums import ExportFormat, TargetKind, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.presets import PRESETS
from api_schemas.reach import SHARE_OF
from api_schemas.resources import DatasetResource, ModelResource
from service.access import ToReadUploads
from service.core import uploads, views
from service.page.rendering import answer
from service.routes import datasets, models
from service.services import Services

OFFERED = 100
DEFAULTS = {
    "model": "", "dataset": "", "preset": "best", "kind": "attention_sparsity", "share": "50", "steps": "0", "epochs": "",
    "drop": "", "layout": "", "exports": "", "name": "", "labels": "",
}  # fmt: skip
"""Fields of the form, as the address carries them."""

router = APIRouter()


@router.get("/new", include_in_schema=False)
def new_page(
    services: ToReadUploads,
    request: Request,
    model_upload: Annotated[str, Query(max_length=64)] = "",
    dataset_upload: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The form, filled in as the address says. `model_upload`, `dataset_upload`: uploads that are to go on."""
    given = {name: request.query_params.get(name, value)[:2000] for name, value in DEFAULTS.items()}
    return answer(
        request,
        "new.html.j2",
        given=given,
        models=_models(services, given["model"]),
        datasets=_datasets(services, given["dataset"]),
        uploads={"model": model_upload, "dataset": dataset_upload},
        presets=tuple(PRESETS),
        kinds={kind: SHARE_OF[kind] for kind in TargetKind},
        formats=tuple(ExportFormat),
    )


def _models(services: Services, chosen: str) -> list[ModelResource]:
    """The newest that are ready, and the one that the address names, however old."""
    found = [each for each in models.list_models(services, None, OFFERED).items if each.state is UploadState.READY]
    if chosen and all(each.id != chosen for each in found):
        try:
            found.append(views.model(uploads.get(services, "model", chosen), services.settings))
        except SecateurError as error:
            _let_absent_pass(error)
    return found


def _datasets(services: Services, chosen: str) -> list[DatasetResource]:
    """Likewise."""
    found = [each for each in datasets.list_datasets(services, None, OFFERED).items if each.state is UploadState.READY]
    if chosen and all(each.id != chosen for each in found):
        try:
            found.append(views.dataset(uploads.get(services, "dataset", chosen), services.settings))
        except SecateurError as error:
            _let_absent_pass(error)
    return found


def _let_absent_pass(error: SecateurError) -> None:
    """What an old address names may be gone: then something else is to be chosen."""
    if error.code not in (ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED):
        raise error
