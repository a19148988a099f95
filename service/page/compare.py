"""`/compare?job=…&job=…`: two to four jobs drawn over each other."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api_schemas.ids import JobId
from service.access.turns import FairRoute
from service.core.jobs import jobs
from service.dependencies import ToReadJobs
from service.page.figures import comparison
from service.page.rendering import answer
from store.jobs.job_lists import JobFilter

FEWEST, MOST = 2, 4
OFFERED = 50

router = APIRouter(route_class=FairRoute)


@router.get("/compare", include_in_schema=False)
def compare_page(
    services: ToReadJobs, request: Request, job: Annotated[list[JobId] | None, Query(max_length=20)] = None
) -> Response:
    """Their curves; with fewer than two or more than four, the jobs to choose from."""
    wanted = list(dict.fromkeys(job or ()))
    chosen = [jobs.get(services, job_id) for job_id in wanted[:MOST]]
    enough = FEWEST <= len(wanted) <= MOST
    return answer(
        request,
        "compare.html.j2",
        chosen=chosen,
        names=comparison.names(chosen),
        curves=comparison.comparison(chosen) if enough else (),
        enough=enough,
        wanted=wanted,
        offered=jobs.page(services, None, OFFERED, JobFilter()).items,
        fewest=FEWEST,
        most=MOST,
    )
