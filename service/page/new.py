"""`/new`: upload or choose a model and a dataset, and choose what to prune."""

import json
import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api_schemas.api.resources import DatasetResource, JobResource, ModelResource
from api_schemas.enums import (
    Basis,
    Criterion,
    ExportFormat,
    Granularity,
    JobState,
    LabelSource,
    Side,
    Split,
    TargetKind,
    UploadState,
)
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.formatting import line
from api_schemas.spec.presets import PRESETS
from api_schemas.spec.pruning import SHARE_OF
from service.access.turns import FairRoute
from service.core import resources
from service.core.jobs import jobs
from service.core.uploads import uploads
from service.dependencies import ToReadUploads
from service.page.form_fields import MOST_SHARE, MOST_STEPS, OF_PARTS, Filled
from service.page.inputs.used_by import may_see_jobs
from service.page.rendering import answer, visible_json
from service.page.rerun import fields_of, settling
from service.routes import datasets, models
from service.services import Services
from store.files.model_buckets import parse_buckets
from store.jobs.job_lists import JobFilter

OF_THE_ADDRESS = {"model_upload", "dataset_upload", "rest_of", "like"}
"""What it carries beside fields."""
LONGEST = 20_000
"""Characters of a field: JSON of a whole request fits."""
OFFERED = 100
OFFERED_JOBS = 30
MOST_STEPS_ASKED = 100
"""What a request may ask for, beyond what the slider offers by itself."""
CHOICES = {"granularity": Granularity, "criterion": Criterion, "basis": Basis, "only": Side}
COLUMNS = {
    "input": "Input column",
    "input_pair": "Second input column",
    "label": "Label column",
    "group": "Group column",
}

router = APIRouter(route_class=FairRoute)


@router.get("/new", include_in_schema=False)
def new_page(services: ToReadUploads, request: Request, filled: Annotated[Filled, Query()]) -> Response:
    """The form, filled in as the address says. Raises NOT_FOUND or DELETED of a job that it is to be like."""
    filled = _like(services, filled)
    given = {name: value[:LONGEST] for name, value in filled.model_dump(exclude=OF_THE_ADDRESS).items()}
    given["rest"] = _readable(given["rest"])
    return answer(
        request,
        "new.html.j2",
        given=given,
        models=_models(services, given["model"]),
        datasets=_datasets(services, given["dataset"]),
        steps=_steps(services),
        buckets=tuple(sorted(parse_buckets(services.settings.model_buckets))),
        uploads={"model": filled.model_upload, "dataset": filled.dataset_upload},
        presets=tuple(PRESETS),
        kinds={kind: SHARE_OF[kind] for kind in TargetKind},
        of_parts=OF_PARTS,
        formats=tuple(ExportFormat),
        choices={name: tuple(kind) for name, kind in CHOICES.items()},
        sources=tuple(LabelSource),
        columns=COLUMNS,
        splits=tuple(Split),
        rest_of=filled.rest_of,
        most_steps=max(MOST_STEPS, _steps_asked(given["steps"])),
        most_share=MOST_SHARE,
    )


def _like(services: Services, filled: Filled) -> Filled:
    """With what a job asked for, where the address names one and does not say otherwise."""
    if not filled.like or not may_see_jobs(services):
        return filled
    request = jobs.get(services, filled.like).request
    asked = fields_of(request, settling(services, request.model))
    said = filled.model_dump(include=filled.model_fields_set)
    return Filled.model_validate({**asked, "rest_of": filled.like, **said})


def _steps_asked(text: str) -> int:
    return min(int(text), MOST_STEPS_ASKED) if re.fullmatch("[0-9]{1,3}", text) else 0


def _readable(rest: str) -> str:
    """JSON as it is shown; what is none is left for the form to find fault with."""
    try:
        return visible_json(json.loads(rest)) if rest else ""
    except (ValueError, RecursionError):
        return "\n".join(line(each) for each in rest.splitlines())


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


def _steps(services: Services) -> list[JobResource]:
    """The newest jobs that a step can be taken of, where the key may see jobs."""
    if not may_see_jobs(services):
        return []
    found = jobs.page(services, None, OFFERED_JOBS, JobFilter(states=(JobState.SUCCEEDED,))).items
    return [job for job in found if any(step.step > 0 for step in job.metrics)]


def _let_absent_pass(error: SecateurError) -> None:
    """What an old address names may be gone: then something else is to be chosen."""
    if error.code not in (ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED):
        raise error
