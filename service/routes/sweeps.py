"""Sweeps: submit, list, look at as a table, pause, resume, cancel, delete."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Request, Response
from sqlalchemy.orm import Session

from api_schemas.api.resources import Page
from api_schemas.api.sweeps import SweepDetail, SweepResource
from api_schemas.enums import SweepState
from api_schemas.errors import ErrorCode
from api_schemas.spec.sweep import SweepRequest
from service.core import waking
from service.core.sweeps import submit, sweeps
from service.dependencies import ToReadJobs, ToWriteJobs
from service.openapi.document import ETAG, LOCATION, RETRY_AFTER, problems, sometimes
from service.openapi.examples.requests import SWEEP_EXAMPLES
from service.paths import V1
from service.responses.idempotency import CODES, REPLAYED, Key, once
from service.responses.polling import NOT_MODIFIED, POLL_SECONDS, IfNoneMatch, polled
from service.routes.jobs import REFUSED
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import Cursor, Limit, SweepPath
from store.access.idempotency import Answer
from store.database.tables import Sweep

router = APIRouter(prefix="/sweeps", tags=["sweeps"], route_class=JsonRoute)

SweepBody = Annotated[SweepRequest, Body(openapi_examples=SWEEP_EXAMPLES)]
_STEERED = problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.CONFLICT)


@router.post(
    "",
    operation_id="create_sweep",
    summary="Submit a sweep",
    status_code=202,
    response_model=SweepDetail,
    response_description="Queued. `Location` is where to poll.",
    responses={
        202: {"headers": LOCATION | RETRY_AFTER | REPLAYED},
        **problems(*REFUSED, *CODES, ErrorCode.QUOTA_EXCEEDED),
    },
)
def create_sweep(
    services: ToWriteJobs, body: SweepBody, key: Key, request: Request, background: BackgroundTasks
) -> Response:
    """One model, one dataset, and a job for each spec: all of them, or none where one could not run.

    Its jobs are ordinary jobs with a `sweep_id`. `errors` points at what is wrong with any of them, by its place in `specs`,
    `grid` or `base`. Two specs that ask for the same are refused.
    """

    def answer(session: Session, sweep: Sweep) -> Answer:
        resource = sweeps.detail(session, services, sweep)
        headers = {"Location": f"{V1}/sweeps/{sweep.id}", "Retry-After": str(POLL_SECONDS)}
        return Answer(202, headers, resource.model_dump_json())

    # After the answer: a broker that does not answer must not hold it up.
    background.add_task(waking.wake, services)
    return once(services, request, key, body, partial(submit.submit, services, body), answer)


@router.get(
    "",
    operation_id="list_sweeps",
    summary="List sweeps",
    response_model=Page[SweepResource],
    responses={
        200: {"headers": ETAG | sometimes(RETRY_AFTER)},
        304: {"description": NOT_MODIFIED, "headers": ETAG | sometimes(RETRY_AFTER)},
        **problems(),
    },
)
def list_sweeps(
    services: ToReadJobs, cursor: Cursor = None, limit: Limit = 20, if_none_match: IfNoneMatch = None
) -> Response:
    """Newest first, deleted ones left out. `Retry-After` is sent while a sweep of the page has not ended."""
    page = sweeps.page(services, cursor, limit)
    return polled(page, if_none_match, living=any(sweep.state is not SweepState.ENDED for sweep in page.items))


@router.get(
    "/{sweep_id}",
    operation_id="get_sweep",
    summary="Poll a sweep",
    response_model=SweepDetail,
    responses={
        200: {"headers": ETAG | sometimes(RETRY_AFTER)},
        304: {"description": NOT_MODIFIED, "headers": ETAG | sometimes(RETRY_AFTER)},
        **problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED),
    },
)
def get_sweep(services: ToReadJobs, sweep_id: SweepPath, if_none_match: IfNoneMatch = None) -> Response:
    """How many jobs are in each state, a row for each with what it came to, and which of them no other beats.

    `Retry-After` is sent until all jobs have ended.
    """
    sweep = sweeps.get(services, sweep_id)
    return polled(sweep, if_none_match, living=sweep.state is not SweepState.ENDED)


@router.delete(
    "/{sweep_id}", operation_id="delete_sweep", summary="Delete a sweep", status_code=204, responses=_STEERED
)
def delete_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> None:
    """With its jobs and all of theirs; it answers 410 from then on. 409 before the end of them all: cancel it first."""
    sweeps.delete(services, sweep_id)


@router.post(
    "/{sweep_id}/cancel", operation_id="cancel_sweep", summary="Cancel a sweep", status_code=202, responses=_STEERED
)
def cancel_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> SweepDetail:
    """Every job that has not ended, as `POST /v1/jobs/{id}/cancel` does; what has ended stays. 409 after the end of them all."""
    return sweeps.cancel(services, sweep_id)


@router.post(
    "/{sweep_id}/pause", operation_id="pause_sweep", summary="Pause a sweep", status_code=202, responses=_STEERED
)
def pause_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> SweepDetail:
    """Every job that has not ended: queued ones at once, running ones after the step that runs."""
    return sweeps.pause(services, sweep_id)


@router.post(
    "/{sweep_id}/resume",
    operation_id="resume_sweep",
    summary="Resume a paused sweep",
    status_code=202,
    responses=_STEERED,
)
def resume_sweep(services: ToWriteJobs, sweep_id: SweepPath, background: BackgroundTasks) -> SweepDetail:
    """Every job that is paused is queued again, and pauses that were still to come are taken back."""
    sweep = sweeps.resume(services, sweep_id)
    background.add_task(waking.wake, services)
    return sweep
