"""`/jobs/{id}`: one job, one tab at a time."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api_schemas.api.resources import JobResource
from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results import display, parts
from api_schemas.results.answer import chosen_step
from api_schemas.results.events import Loss
from service.access.turns import FairRoute
from service.core.jobs import checkpoints, jobs
from service.dependencies import ToReadJobs
from service.page.figures import heat_maps, step_curves
from service.page.job_parts import failure, inputs, outcome, timeline
from service.page.rendering import answer, part_wanted, visible_json
from service.routes.parameters import JobPath
from service.services import Services

EVENTS = 100
LOG_LINES, TAIL_LINES = 500, 10
MOST_LOSSES = 1000
TABS = {
    "results": "Results",
    "layers": "Layers and heads",
    "training": "Recovery",
    "files": "Downloads",
    "log": "Log",
    "events": "Events",
    "request": "Request",
}

router = APIRouter(route_class=FairRoute)


@router.get("/jobs/{job_id}", include_in_schema=False)
def job_page(
    services: ToReadJobs,
    request: Request,
    job_id: JobPath,
    tab: str = "results",
    step: Annotated[int | None, Query(ge=0, le=10_000)] = None,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> Response:
    """The whole page, its head alone (state, progress, buttons), or its tab alone."""
    found = jobs.get(services, job_id)
    shown = tab if tab in TABS else "results"
    context: dict[str, Any] = {
        "job": found,
        "living": found.state not in TERMINAL_STATES,
        "possible": _possible(found),
        "newest": jobs.last_event(services, job_id)[0],
        "cut": parts.cut_by(found.request.pruning),
        "goals": parts.goals_in_words(found.request.pruning),
    }
    context |= {"tab": shown, "tabs": TABS}
    part = part_wanted(request)
    if part != "tab":
        context |= _head(services, found)
    if part == "status":
        return answer(request, "parts/job_status.html.j2", **context)
    context |= _IN_TAB[shown](services, found, step, attempt, after)
    return answer(request, "parts/job_tab.html.j2" if part == "tab" else "job.html.j2", **context)


def _head(services: Services, job: JobResource) -> dict[str, Any]:
    """What stands above the tabs: of a job that goes on its timeline, of one that has ended what came of it."""
    rows: Sequence[timeline.Row] = ()
    if job.state not in TERMINAL_STATES:
        events = jobs.newest_events(services, job.id, timeline.KINDS, timeline.MOST_EVENTS)
        rows = timeline.timeline(job, events, datetime.now(UTC))
    return {
        "timeline": rows,
        "outcome": outcome.of_job(services, job),
        "failure": failure.explained(job),
        "inputs": inputs.inputs_of(services, job),
    }


def _possible(job: JobResource) -> tuple[str, ...]:
    """What can be done with it now."""
    if job.state in TERMINAL_STATES:
        return ("delete",)
    if job.state is JobState.CANCELLING:
        return ()
    waits = job.state is JobState.PAUSED or job.pause_requested
    return ("resume" if waits else "pause", "cancel")


def _results(services: Services, job: JobResource, *_: int | None) -> dict[str, Any]:
    living = job.state not in TERMINAL_STATES
    told = _told_losses(services, job)
    return {
        "curves": step_curves.curves(job),
        "chosen": chosen_step(job.metrics, job.result),
        "batch_sizes": display.batch_sizes(job.metrics),
        "losses": step_curves.losses(job, told) if living else step_curves.unfinished(job, told),
        "log_tail": _log_tail(services, job) if living else (),
    }


def _log_tail(services: Services, job: JobResource) -> Sequence[str]:
    """The newest lines that say something."""
    lines: Sequence[str] = _log(services, job, None, None)["lines"]
    return [line for line in lines if line.strip()][-TAIL_LINES:]


def _told_losses(services: Services, job: JobResource) -> Sequence[Loss]:
    """Of a recovery that runs, or that did not finish: its step has no metrics. None where the events are gone."""
    if job.state is JobState.SUCCEEDED:
        return ()
    events = jobs.newest_events(services, job.id, ("loss",), MOST_LOSSES)
    return [event.body for event in events if isinstance(event.body, Loss)]


def _layers(_: Services, job: JobResource, step: int | None, *__: int | None) -> dict[str, Any]:
    cut = [measured for measured in job.metrics if measured.step > 0]
    if step is not None and cut and not any(measured.step == step for measured in cut):
        raise SecateurError(ErrorCode.NOT_FOUND, f"Job {job.id} has no step {step} with a cut.")
    chosen = next((measured for measured in cut if measured.step == step), cut[-1] if cut else None)
    return {
        "layers": heat_maps.layers(job),
        "heads": () if chosen is None else heat_maps.heads(job, chosen),
        "chosen": chosen,
        "cut_steps": cut,
        "sensitivity": heat_maps.sensitivity(job),
        "found": job.metrics[0].sensitivity if job.metrics else None,
    }


def _training(services: Services, job: JobResource, *_: int | None) -> dict[str, Any]:
    told = _told_losses(services, job)
    return {"losses": step_curves.losses(job, told), "newest_loss": told[-1] if told else None}


def _unless_gone(tab: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Of what was kept for its time the page says so, as far as it shows the rest."""

    def shown(*given: Any) -> dict[str, Any]:
        try:
            return tab(*given)
        except SecateurError as error:
            if error.code is not ErrorCode.EXPIRED:
                raise
            return {"gone": error.detail}

    return shown


def _files(services: Services, job: JobResource, *_: int | None) -> dict[str, Any]:
    kept = checkpoints.described(services, job.id, checkpoints.all_of(services, job.id))
    has_report = any(file.name == checkpoints.REPORT for step in kept for file in step.files)
    return {"checkpoints": kept, "has_report": has_report}


def _log(services: Services, job: JobResource, _: int | None, attempt: int | None, *__: int | None) -> dict[str, Any]:
    piece, attempts = jobs.log_of(services, job.id, attempt, None)
    lines = piece.text.splitlines()
    return {
        "lines": lines[-LOG_LINES:],
        "left_out": len(lines) > LOG_LINES or piece.start > 0,
        "attempt": piece.attempt,
        "attempts": attempts,
    }


def _events(services: Services, job: JobResource, _: int | None, __: int | None, after: int | None) -> dict[str, Any]:
    newest, _ended = jobs.last_event(services, job.id)
    begin = max(0, newest - EVENTS) if after is None else after
    found, _state = jobs.events(services, job.id, begin, EVENTS)
    return {
        "events": list(reversed(found)),
        "older": max(0, begin - EVENTS) if begin > 0 else None,
        "newer": begin + EVENTS if begin + EVENTS < newest else None,
    }


def _request(_: Services, job: JobResource, *__: int | None) -> dict[str, Any]:
    return {"body": visible_json(job.request.model_dump(mode="json"))}


_IN_TAB: dict[str, Callable[..., dict[str, Any]]] = {
    "results": _results,
    "layers": _layers,
    "training": _training,
    "files": _unless_gone(_files),
    "log": _unless_gone(_log),
    "events": _unless_gone(_events),
    "request": _request,
}
