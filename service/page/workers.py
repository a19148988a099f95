"""`/workers`: what runs, what waits and why, and, for administrators, on which machines; kept up to date by polling."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api_schemas.enums import JobState, KeyScope
from service.access.turns import FairRoute
from service.core import workers
from service.core.jobs import jobs
from service.dependencies import ToLookAround
from service.page.inputs.used_by import may_see_jobs
from service.page.rendering import answer, part_wanted
from service.services import Services
from store.jobs.job_lists import JobFilter

SHOWN = 50
RUNNING = (JobState.RUNNING, JobState.CANCELLING)
WAITING = (JobState.QUEUED, JobState.PAUSED)

router = APIRouter(route_class=FairRoute)


@router.get("/workers", include_in_schema=False)
def workers_page(services: ToLookAround, request: Request) -> Response:
    """The whole page, or its tables alone. A key sees what it could list: jobs, and with `admin` workers."""
    template = "inputs/worker_tables.html.j2" if part_wanted(request) == "workers" else "inputs/workers.html.j2"
    found = None
    if KeyScope.ADMIN in services.caller.scopes:
        found = workers.page(services, None, SHOWN)
    return answer(request, template, workers=found, **_jobs(services))


def _jobs(services: Services) -> dict[str, Any]:
    if not may_see_jobs(services):
        return {"sees_jobs": False, "running": (), "waiting": (), "more": False}
    running = jobs.page(services, None, SHOWN, JobFilter(states=RUNNING)).items
    waiting = jobs.page(services, None, SHOWN, JobFilter(states=WAITING))
    # The next one first; what has no place waits for something else than its turn.
    in_turn = sorted(waiting.items, key=lambda job: (job.queue_position is None, job.queue_position, job.created_at))
    return {"sees_jobs": True, "running": running, "waiting": in_turn, "more": waiting.next_cursor is not None}
