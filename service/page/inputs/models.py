"""`/models` and `/models/{id}`: what was uploaded, what it contains, and which jobs used it."""

from fastapi import APIRouter, Request, Response

from api_schemas.spec.pruning import SHARE_OF
from service.access.turns import FairRoute
from service.dependencies import ToReadUploads
from service.page.inputs import lineage, used_by
from service.page.rendering import answer
from service.routes import models
from service.routes.parameters import Cursor, ModelPath
from store.jobs.job_lists import JobFilter

PAGE = 50
MOST_LABELS = 200

router = APIRouter(route_class=FairRoute)


@router.get("/models", include_in_schema=False)
def models_page(services: ToReadUploads, request: Request, cursor: Cursor = None) -> Response:
    """The list, newest first."""
    page = models.list_models(services, cursor, PAGE)
    return answer(
        request, "inputs/models.html.j2", models=page.items, older=page.next_cursor, newest=cursor is not None
    )


@router.get("/models/{model_id}", include_in_schema=False)
def model_page(services: ToReadUploads, request: Request, model_id: ModelPath) -> Response:
    """One. Raises NOT_FOUND, or DELETED."""
    model = models.get_model(services, model_id)
    made, living, more = used_by.jobs_of(services, JobFilter(model_id=model_id))
    return answer(
        request,
        "inputs/model.html.j2",
        model=model,
        made=lineage.trees(services, made),
        share_of=SHARE_OF,
        sees_jobs=used_by.may_see_jobs(services),
        living=living,
        more=more,
        deletable=used_by.may_delete(services),
        most_labels=MOST_LABELS,
    )
