"""Sweeps: submit, list, read as a table, pause, resume, cancel, delete."""

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
    response_description="The sweep is queued. Poll it at `Location`.",
    responses={
        202: {"headers": LOCATION | RETRY_AFTER | REPLAYED},
        **problems(*REFUSED, *CODES, ErrorCode.QUOTA_EXCEEDED),
    },
)
def create_sweep(
    services: ToWriteJobs, body: SweepBody, key: Key, request: Request, background: BackgroundTasks
) -> Response:
    """One model, one dataset, and one job per spec. Either all jobs are created or, if one of them could not run, none.

    They are ordinary jobs with a `sweep_id`. `errors` points to the problems of each by its place in `specs`, `grid` or `base`.
    Two identical specs are rejected.
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
    """Newest first, without deleted sweeps. `Retry-After` is sent while any sweep on the page is unfinished."""
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
    """Returns the number of jobs in each state, one row per job with its results, and the Pareto-optimal jobs.

    `Retry-After` is sent until all jobs have ended.
    """
    sweep = sweeps.get(services, sweep_id)
    return polled(sweep, if_none_match, living=sweep.state is not SweepState.ENDED)


@router.delete(
    "/{sweep_id}", operation_id="delete_sweep", summary="Delete a sweep", status_code=204, responses=_STEERED
)
def delete_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> None:
    """Deletes the sweep with its jobs and their data; it returns 410 from then on. 409 if any job has not ended: cancel it
    first."""
    sweeps.delete(services, sweep_id)


@router.post(
    "/{sweep_id}/cancel", operation_id="cancel_sweep", summary="Cancel a sweep", status_code=202, responses=_STEERED
)
def cancel_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> SweepDetail:
    """Cancels every unfinished job, as `POST /v1/jobs/{id}/cancel` does; the others do not change. 409 if all have ended."""
    return sweeps.cancel(services, sweep_id)


@router.post(
    "/{sweep_id}/pause", operation_id="pause_sweep", summary="Pause a sweep", status_code=202, responses=_STEERED
)
def pause_sweep(services: ToWriteJobs, sweep_id: SweepPath) -> SweepDetail:
    """Pauses every unfinished job: queued ones immediately, running ones after their current step."""
    return sweeps.pause(services, sweep_id)


@router.post(
    "/{sweep_id}/resume",
    operation_id="resume_sweep",
    summary="Resume a paused sweep",
    status_code=202,
    responses=_STEERED,
)
def resume_sweep(services: ToWriteJobs, sweep_id: SweepPath, background: BackgroundTasks) -> SweepDetail:
    """Queues all paused jobs again and withdraws pending pauses."""
    sweep = sweeps.resume(services, sweep_id)
    background.add_task(waking.wake, services)
    return sweep
