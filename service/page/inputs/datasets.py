"""`/datasets` and `/datasets/{id}`: what was uploaded, what is inside, and which jobs used it."""

from fastapi import APIRouter, Request, Response

from service.access.turns import FairRoute
from service.dependencies import ToReadUploads
from service.page.inputs import used_by
from service.page.rendering import answer
from service.routes import datasets
from service.routes.parameters import Cursor, DatasetPath
from store.jobs.job_lists import JobFilter

PAGE = 50
MOST_LABELS = 200

router = APIRouter(route_class=FairRoute)


@router.get("/datasets", include_in_schema=False)
def datasets_page(services: ToReadUploads, request: Request, cursor: Cursor = None) -> Response:
    """The list, newest first."""
    page = datasets.list_datasets(services, cursor, PAGE)
    return answer(
        request, "inputs/datasets.html.j2", datasets=page.items, older=page.next_cursor, newest=cursor is not None
    )


@router.get("/datasets/{dataset_id}", include_in_schema=False)
def dataset_page(services: ToReadUploads, request: Request, dataset_id: DatasetPath) -> Response:
    """One. Raises NOT_FOUND, or DELETED."""
    dataset = datasets.get_dataset(services, dataset_id)
    used, living, more = used_by.jobs_of(services, JobFilter(dataset_id=dataset_id))
    return answer(
        request,
        "inputs/dataset.html.j2",
        dataset=dataset,
        jobs=used,
        sees_jobs=used_by.may_see_jobs(services),
        living=living,
        more=more,
        deletable=used_by.may_delete(services),
        most_labels=MOST_LABELS,
    )
