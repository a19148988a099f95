"""Jobs: submit, list, poll, follow, pause, resume, cancel."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Header, Query, Request, Response

from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.errors import ErrorCode
from api_schemas.events import JobEvent
from api_schemas.resources import JobResource, Page
from api_schemas.spec import JobRequest
from service.core import checkpoints, jobs, ranges, submit, views
from service.downloads import file_response
from service.openapi import CONTENT_RANGE, ETAG, LOCATION, LOG_HEADERS, RETRY_AFTER, problems, request_headers
from service.routes.examples import JOB_EXAMPLES
from service.routes.parameters import Cursor, JobPath, Limit
from service.services import With

router = APIRouter(prefix="/jobs", tags=["jobs"])
POLL_SECONDS = 2


@router.post(
    "",
    operation_id="create_job",
    summary="Submit a job",
    status_code=202,
    response_description="Queued. `Location` is where to poll.",
    responses={
        202: {"headers": LOCATION | RETRY_AFTER},
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.UPLOAD_INCOMPLETE,
            ErrorCode.EXPIRED,
            ErrorCode.NO_CHECKPOINT,
            ErrorCode.STEP_NOT_PRUNABLE,
            ErrorCode.INPUT_LOST,
            ErrorCode.STORAGE_UNAVAILABLE,
            ErrorCode.MODEL_FETCH_FAILED,
            ErrorCode.FILE_MISSING,
            ErrorCode.FILE_UNEXPECTED,
            ErrorCode.FILE_TYPE_REFUSED,
            ErrorCode.SAFETENSORS_INVALID,
            ErrorCode.CONFIG_INVALID,
            ErrorCode.CODE_REFUSED,
            ErrorCode.ARCHITECTURE_UNSUPPORTED,
            ErrorCode.WEIGHTS_MISMATCH,
            ErrorCode.SPARSITY_OUT_OF_REACH,
            ErrorCode.WIDTH_MISALIGNED,
            ErrorCode.LABELS_MISMATCH,
            ErrorCode.DATASET_SCHEMA,
            ErrorCode.DATASET_EMPTY,
            ErrorCode.REQUEST_TOO_LARGE,
        ),
    },
)
def create_job(
    services: With,
    request: Annotated[JobRequest, Body(openapi_examples=JOB_EXAMPLES)],
    response: Response,
    background: BackgroundTasks,
) -> JobResource:
    """Refused at once where it cannot succeed: inputs not ready, a sparsity out of reach, labels the model does not know."""
    job = submit.submit(services, request)
    # After the answer: a broker that does not answer must not hold it up.
    background.add_task(submit.wake, services)
    response.headers["Location"] = f"{views.V1}/jobs/{job.id}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    return views.job(job, ())


@router.get("", operation_id="list_jobs", summary="List jobs", responses=problems())
def list_jobs(
    services: With,
    cursor: Cursor = None,
    limit: Limit = 20,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
) -> Page[JobResource]:
    """Newest first."""
    return jobs.page(services, cursor, limit, state)


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Poll a job",
    response_model=JobResource,
    responses={
        200: {"headers": ETAG | RETRY_AFTER},
        304: {"description": "Nothing has changed since `If-None-Match`.", "headers": ETAG | RETRY_AFTER},
        **problems(ErrorCode.NOT_FOUND),
    },
)
def get_job(
    services: With,
    job_id: JobPath,
    if_none_match: Annotated[str | None, Header(description="`ETag` of the last answer.")] = None,
) -> Response:
    """State, phase, progress and the metrics of every committed step. `Retry-After` is sent until the job has ended."""
    job = jobs.get(services, job_id)
    body = job.model_dump_json()
    headers = {"ETag": f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if job.state not in TERMINAL_STATES:
        headers["Retry-After"] = str(POLL_SECONDS)
    if ranges.matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    "/{job_id}/events",
    operation_id="list_job_events",
    summary="What happened to a job",
    responses=problems(ErrorCode.NOT_FOUND),
)
def list_job_events(
    services: With,
    job_id: JobPath,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Events numbered above this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events of an answer.")] = 200,
) -> Page[JobEvent]:
    """In order, oldest first. `next_cursor` is the `after` of the next page, null where this one is the last."""
    # One more than asked for says whether there is another page.
    found = jobs.events(services, job_id, after, limit + 1)
    items = tuple(found[:limit])
    return Page(items=items, next_cursor=str(items[-1].seq) if len(found) > limit else None)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def cancel_job(services: With, job_id: JobPath) -> JobResource:
    """A queued job is cancelled at once, a running one becomes `cancelling` until its engine has ended. 409 after its end."""
    return jobs.cancel(services, job_id)


@router.post(
    "/{job_id}/pause",
    operation_id="pause_job",
    summary="Pause a job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def pause_job(services: With, job_id: JobPath) -> JobResource:
    """A queued job is paused at once, a running one after the step that runs (`pause_requested` until then)."""
    return jobs.pause(services, job_id)


@router.post(
    "/{job_id}/resume",
    operation_id="resume_job",
    summary="Resume a paused job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def resume_job(services: With, job_id: JobPath, background: BackgroundTasks) -> JobResource:
    """It is queued again and goes on after its last finished step; a pause that was still to come is taken back."""
    job = jobs.resume(services, job_id)
    background.add_task(submit.wake, services)
    return job


@router.get(
    "/{job_id}/logs",
    operation_id="get_job_log",
    summary="The engine's log",
    response_class=Response,
    responses={
        200: {
            "description": "A piece of the log, at most about a megabyte; empty at its end.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "headers": LOG_HEADERS,
        },
        **problems(ErrorCode.NOT_FOUND),
    },
)
def get_job_log(
    services: With,
    job_id: JobPath,
    attempt: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Default: the newest that left a log.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="`Log-Next-Offset` of the last answer.")] = 0,
) -> Response:
    """What the engine wrote in one attempt, also while it runs and after it failed. Ask on from `Log-Next-Offset`."""
    piece, attempts = jobs.log_of(services, job_id, attempt, offset)
    headers = {
        "Log-Attempt": str(piece.attempt),
        "Log-Attempts": ",".join(map(str, attempts)),
        "Log-Offset": str(piece.start),
        "Log-Next-Offset": str(piece.end),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(piece.text, headers=headers, media_type="text/plain; charset=utf-8")


@router.get(
    "/{job_id}/report",
    operation_id="get_job_report",
    summary="The report of a job",
    tags=["checkpoints"],
    response_class=Response,
    responses={
        200: {
            "description": "A self-contained page.",
            "content": {"text/html": {"schema": {"type": "string"}}},
            "headers": ETAG,
        },
        206: {
            "description": "The bytes of `Range`.",
            "content": {"text/html": {"schema": {"type": "string"}}},
            "headers": ETAG | CONTENT_RANGE,
        },
        304: {"description": "The client has it already (`If-None-Match`)."},
        **problems(ErrorCode.NOT_FOUND, ErrorCode.NO_CHECKPOINT, ErrorCode.EXPIRED, ErrorCode.RANGE_NOT_SATISFIABLE),
    },
    openapi_extra=request_headers(
        Range="One range of bytes.",
        If_Range="`ETag` of the part you have.",
        If_None_Match="`ETag` of the report you have: 304 where it has not changed.",
    ),
)
def get_job_report(services: With, job_id: JobPath, request: Request) -> Response:
    """As of the newest step: the same page as in its folder. 404 `no_checkpoint` before the first step."""
    return file_response(request, services, checkpoints.report_of(services, job_id), inline=True, caching="no-cache")
