"""`/new/reach`: the range of the form's slider for the chosen model, preset and target."""

from math import ceil, floor
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, TypeAdapter, ValidationError

from api_schemas.enums import Granularity, Layout, TargetKind
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import ModelReference, UploadedModel
from api_schemas.spec.pruning import Pruning
from checkpoints.planning import feasibility
from service.access.turns import FairRoute
from service.core.jobs import model_source
from service.dependencies import ToReadUploads
from service.page.form_fields import OF_PARTS, PARTS
from service.page.inputs.used_by import may_see_jobs

LONGEST = 5
"""Digits of a step's number."""
_MODEL: TypeAdapter[ModelReference] = TypeAdapter(ModelReference)

router = APIRouter(route_class=FairRoute)


class Asked(BaseModel):
    """The fields of the form that it depends on."""

    model_from: str = "upload"
    model: str = ""
    model_step: str = ""
    model_bucket: str = ""
    model_prefix: str = ""
    preset: str = "best"
    kind: str = "attention_sparsity"
    parts: str = ""
    only: str = ""
    layout: str = ""
    granularity: str = ""


class Reach(BaseModel):
    """In percent of the target; null where nothing can be said: the estimate then says why."""

    least: float | None = None
    most: float | None = None


@router.get("/new/reach", include_in_schema=False)
def reach(services: ToReadUploads, asked: Annotated[Asked, Query()]) -> Reach:
    """Between which shares the slider may stand. Raises what reading the model does (NOT_FOUND, …)."""
    try:
        reference, pruning = _MODEL.validate_python(_reference(asked)), Pruning.model_validate(_pruning(asked))
    except ValidationError:
        return Reach()
    # Steps and buckets are looked into as by an estimate, which a key for uploads alone cannot ask for.
    if not isinstance(reference, UploadedModel) and not may_see_jobs(services):
        return Reach()
    known = model_source.find(services, reference).known
    if known is None:
        return Reach()
    try:
        least, most = feasibility.reach(known.shape, known.layout.widths, pruning)
    except SecateurError as error:
        if error.code not in (ErrorCode.INVALID_REQUEST, ErrorCode.WIDTH_MISALIGNED):
            raise
        return Reach()
    # Rounded so that both ends are within.
    return Reach(least=ceil(1000 * least) / 10, most=floor(1000 * most) / 10)


def _reference(asked: Asked) -> dict[str, Any]:
    if asked.model_from == "step":
        job, _, step = asked.model_step.partition("/")
        return {"type": "step", "job": job, "step": int(step) if step.isdecimal() and len(step) <= LONGEST else 0}
    if asked.model_from == "s3":
        return {"type": "s3", "bucket": asked.model_bucket, "prefix": asked.model_prefix}
    return {"type": "upload", "id": asked.model}


def _pruning(asked: Asked) -> dict[str, Any]:
    """As form.js says it; widths that are multiples of nothing reach furthest, and a job takes them where it has to."""
    found: dict[str, Any] = {"preset": asked.preset, "target": {asked.kind: 0.5}, "align": 1}
    if asked.kind in OF_PARTS and asked.parts in PARTS:
        found["parts"] = PARTS[asked.parts]
    if asked.layout == Layout.STOCK:
        found |= {"layout": Layout.STOCK, "granularity": Granularity.PER_HEAD}
    if asked.only:
        found["only"] = asked.only
    if asked.granularity:
        found["granularity"] = asked.granularity
    return found if asked.kind in set(TargetKind) else {}
