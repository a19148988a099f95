"""`/sweeps` and `/sweeps/{id}`: the list of sweeps, and one sweep as a table with its fronts; kept up to date by polling."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api_schemas.enums import SweepState
from service.access.turns import FairRoute
from service.core.sweeps import sweeps
from service.dependencies import ToReadJobs
from service.page.figures import fronts
from service.page.rendering import answer, part_wanted
from service.routes.parameters import Cursor, SweepPath

PAGE = 50

router = APIRouter(route_class=FairRoute)


@router.get("/sweeps", include_in_schema=False)
def sweeps_page(services: ToReadJobs, request: Request, cursor: Cursor = None) -> Response:
    """The list, newest first."""
    page = sweeps.page(services, cursor, PAGE)
    return answer(request, "sweeps.html.j2", sweeps=page.items, older=page.next_cursor)


@router.get("/sweeps/{sweep_id}", include_in_schema=False)
def sweep_page(services: ToReadJobs, request: Request, sweep_id: SweepPath) -> Response:
    """The whole page, or its table alone."""
    sweep = sweeps.get(services, sweep_id)
    context: dict[str, Any] = {
        "sweep": sweep,
        "living": sweep.state is not SweepState.ENDED,
        "possible": _possible(sweep.state),
        "on": {cost: set(jobs) for cost, jobs in sweep.fronts.model_dump().items()},
    }
    if part_wanted(request) == "sweep":
        return answer(request, "parts/sweep_table.html.j2", **context)
    return answer(request, "sweep.html.j2", figures=fronts.figures(sweep), **context)


def _possible(state: SweepState) -> tuple[str, ...]:
    """What can be done with it now."""
    if state is SweepState.ENDED:
        return ("delete",)
    return ("resume" if state is SweepState.PAUSED else "pause", "cancel")
