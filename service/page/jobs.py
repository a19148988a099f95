"""`/`: the jobs, newest first, kept up to date by polling."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError

from api_schemas.enums import TERMINAL_STATES, JobState, TargetKind
from api_schemas.spec.labels import LabelSelector
from service.access.turns import FairRoute
from service.core.jobs import jobs
from service.dependencies import ToReadJobs
from service.page.rendering import answer, part_wanted
from service.routes.parameters import Cursor
from store.jobs.job_lists import JobFilter

PAGE = 50
LIVING_SECONDS, RESTING_SECONDS = 2, 15
TARGET_NAMES = {
    TargetKind.ATTENTION_SPARSITY: "attention",
    TargetKind.FFN_SPARSITY: "feed-forward",
    TargetKind.PARAMETERS: "parameters",
    TargetKind.FLOPS: "FLOPs",
    TargetKind.LATENCY: "latency",
}
"""Short, for a column."""
_SELECTOR: TypeAdapter[LabelSelector] = TypeAdapter(LabelSelector)

router = APIRouter(route_class=FairRoute)


@dataclass(frozen=True)
class Filters:
    """What the address narrows the list to. `wrong` are labels that cannot be."""

    states: tuple[JobState, ...]
    labels: tuple[str, ...]
    wrong: tuple[str, ...]

    def query(self, **more: str) -> str:
        """The same as a query string, with its question mark; empty where nothing is asked for."""
        pairs = [*(("state", state.value) for state in self.states), *(("label", label) for label in self.labels)]
        pairs += list(more.items())
        return f"?{urlencode(pairs)}" if pairs else ""


@router.get("/", include_in_schema=False)
def jobs_page(
    services: ToReadJobs,
    request: Request,
    cursor: Cursor = None,
    state: Annotated[list[str] | None, Query(max_length=len(JobState))] = None,
    label: Annotated[list[str] | None, Query(max_length=16)] = None,
) -> Response:
    """The whole page, or its list alone."""
    filters = _filters(state or [], label or [])
    wanted = JobFilter(states=filters.states, labels=filters.labels)
    page = jobs.page(services, cursor, PAGE, wanted)
    living = any(job.state not in TERMINAL_STATES for job in page.items)
    template = "parts/job_list.html.j2" if part_wanted(request) == "jobs" else "jobs.html.j2"
    return answer(
        request,
        template,
        jobs=page.items,
        filters=filters,
        states=tuple(JobState),
        target_names=TARGET_NAMES,
        newest=f"/{filters.query()}" if cursor else None,
        older=f"/{filters.query(cursor=page.next_cursor)}" if page.next_cursor else None,
        seconds=LIVING_SECONDS if living else RESTING_SECONDS,
    )


def _filters(states: list[str], labels: list[str]) -> Filters:
    """Empty fields of a form are none. A state that is none is left out, a label that can be none is said so."""
    known = tuple(state for state in JobState if state.value in states)
    given = [word for label in labels for word in label.split()]
    good = [label for label in given if _is_selector(label)]
    return Filters(known, tuple(good), tuple(label for label in given if label not in good))


def _is_selector(label: str) -> bool:
    try:
        _SELECTOR.validate_python(label)
    except ValidationError:
        return False
    return True
