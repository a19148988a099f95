"""Jobs: submit, estimate, list, poll, pause, resume, cancel, delete."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Query, Request, Response
from sqlalchemy.orm import Session

from api_schemas.api.resources import JobResource, Page
from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.errors import ErrorCode
from api_schemas.ids import ModelId, SweepId
from api_schemas.results.estimate import JobEstimate, JobPreview
from api_schemas.spec.job import JobRequest
from api_schemas.spec.labels import LabelSelector
from service.core import waking
from service.core.jobs import checkpoints, jobs, submit
from service.core.jobs import estimate as estimates
from service.dependencies import ToReadJobs, ToWriteJobs
from service.openapi.document import (
    CONTENT_RANGE,
    ETAG,
    LOCATION,
    LOG_HEADERS,
    RETRY_AFTER,
    problems,
    request_headers,
    sometimes,
)
from service.openapi.examples.requests import JOB_EXAMPLES
from service.paths import V1
from service.responses.downloads import file_response
from service.responses.idempotency import CODES, REPLAYED, Key, once
from service.responses.polling import NOT_MODIFIED, POLL_SECONDS, IfNoneMatch, polled
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import Cursor, JobPath, Limit, Moment
from store.access.idempotency import Answer
from store.database.tables import Job
from store.jobs.job_lists import JobFilter

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)

REFUSED = (
    ErrorCode.NOT_FOUND,
    ErrorCode.UPLOAD_INCOMPLETE,
    ErrorCode.DELETED,
    ErrorCode.EXPIRED,
    ErrorCode.ARTIFACT_LOST,
    ErrorCode.NO_CHECKPOINT,
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
)
"""What a request that makes jobs is refused with."""
JobBody = Annotated[JobRequest, Body(openapi_examples=JOB_EXAMPLES)]


@router.post(
    "",
    operation_id="create_job",
    summary="Submit a job",
    status_code=202,
    response_model=JobResource,
    response_description="The job is queued. Poll it at `Location`.",
    responses={
        200: {"description": "`validate_only`: the job is valid; this is a preview of it.", "model": JobPreview},
        202: {"headers": LOCATION | RETRY_AFTER | REPLAYED},
        **problems(*REFUSED, *CODES, ErrorCode.QUOTA_EXCEEDED),
    },
)
def create_job(
    services: ToWriteJobs,
    body: JobBody,
    key: Key,
    request: Request,
    background: BackgroundTasks,
    validate_only: Annotated[
        bool, Query(description="Return 200 with the completed request and an estimate; store nothing.")
    ] = False,
) -> Response:
    """Queues a job. One that cannot succeed is rejected: inputs not ready, a target out of reach, labels unknown to the model."""
    if validate_only:
        accepted = submit.check(services, body)
        estimate = None if accepted.model.known is None else estimates.estimate(services, accepted)
        preview = JobPreview(request=body, estimate=estimate, warnings=accepted.warnings)
        return Response(preview.model_dump_json(), media_type="application/json")

    def answer(session: Session, job: Job) -> Answer:
        resource = jobs.submitted(session, services, job)
        headers = {"Location": f"{V1}/jobs/{job.id}", "Retry-After": str(POLL_SECONDS)}
        return Answer(202, headers, resource.model_dump_json())

    # After the answer: a broker that does not answer must not hold it up.
    background.add_task(waking.wake, services)
    return once(services, request, key, body, partial(submit.submit, services, body), answer)


@router.post(
    ":estimate",
    operation_id="estimate_job",
    summary="Estimate a job",
    responses=problems(*REFUSED),
)
def estimate_job(services: ToReadJobs, body: JobBody) -> JobEstimate:
    """Parameters, FLOPs and bytes after every step, and the time and memory that the job would take.

    Sizes are computed from the checkpoint's config and header and the spec. Which structures are removed is known only after
    scoring; they are assumed to be spread evenly. Time and memory are null until a job of the model's family has finished on
    this server. Fails with the same errors as the job itself; nothing is stored.
    """
    return estimates.estimate(services, submit.check(services, body))


@router.get(
    "",
    operation_id="list_jobs",
    summary="List jobs",
    response_model=Page[JobResource],
    responses={
        200: {"headers": ETAG | sometimes(RETRY_AFTER)},
        304: {"description": NOT_MODIFIED, "headers": ETAG | sometimes(RETRY_AFTER)},
        **problems(),
    },
)
def list_jobs(
    services: ToReadJobs,
    cursor: Cursor = None,
    limit: Limit = 20,
    state: Annotated[
        list[JobState] | None,
        Query(max_length=len(JobState), description="Only jobs in this state; if repeated, in any of them."),
    ] = None,
    label: Annotated[
        list[LabelSelector] | None,
        Query(
            max_length=16,
            description="Only jobs with this label, `team=speech`, or with any value of it, `team`. If repeated, with all of "
            "them.",
        ),
    ] = None,
    model: Annotated[ModelId | None, Query(description="Only jobs that prune this model.")] = None,
    sweep: Annotated[SweepId | None, Query(description="Only jobs of this sweep.")] = None,
    created_after: Annotated[
        Moment | None, Query(description="Only jobs created at or after this time, RFC 3339 with its offset.")
    ] = None,
    created_before: Annotated[Moment | None, Query(description="Only jobs created before this time.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Newest first, without deleted jobs. `Retry-After` is sent while any job on the page is unfinished."""
    wanted = JobFilter(
        states=state or (),
        labels=label or (),
        model_id=model,
        sweep_id=sweep,
        created_after=created_after,
        created_before=created_before,
    )
    page = jobs.page(services, cursor, limit, wanted)
    return polled(page, if_none_match, living=any(job.state not in TERMINAL_STATES for job in page.items))


@router.get(
    "/{job_id}",
    operation_id="get_job",
    summary="Poll a job",
    response_model=JobResource,
    responses={
        200: {"headers": ETAG | sometimes(RETRY_AFTER)},
        304: {"description": NOT_MODIFIED, "headers": ETAG | sometimes(RETRY_AFTER)},
        **problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED),
    },
)
def get_job(services: ToReadJobs, job_id: JobPath, if_none_match: IfNoneMatch = None) -> Response:
    """Returns state, phase, progress and the metrics of every committed step. `Retry-After` is sent until the job has ended."""
    job = jobs.get(services, job_id)
    return polled(job, if_none_match, living=job.state not in TERMINAL_STATES)


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=204,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.CONFLICT),
)
def delete_job(services: ToWriteJobs, job_id: JobPath) -> None:
    """Deletes the job with its checkpoints, events and logs; it returns 410 from then on. 409 if it has not ended: cancel it
    first."""
    jobs.delete(services, job_id)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.CONFLICT),
)
def cancel_job(services: ToWriteJobs, job_id: JobPath) -> JobResource:
    """A queued job is cancelled immediately; a running one becomes `cancelling` until its engine has stopped. 409 if it has
    ended."""
    return jobs.cancel(services, job_id)


@router.post(
    "/{job_id}/pause",
    operation_id="pause_job",
    summary="Pause a job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.CONFLICT),
)
def pause_job(services: ToWriteJobs, job_id: JobPath) -> JobResource:
    """A queued job is paused immediately, a running one after its current step (`pause_requested` until then)."""
    return jobs.pause(services, job_id)


@router.post(
    "/{job_id}/resume",
    operation_id="resume_job",
    summary="Resume a paused job",
    status_code=202,
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.CONFLICT),
)
def resume_job(services: ToWriteJobs, job_id: JobPath, background: BackgroundTasks) -> JobResource:
    """The job is queued again and continues after its last finished step; a pending pause is withdrawn."""
    job = jobs.resume(services, job_id)
    background.add_task(waking.wake, services)
    return job


@router.get(
    "/{job_id}/logs",
    operation_id="get_job_log",
    summary="Get the engine's log",
    response_class=Response,
    responses={
        200: {
            "description": "A part of the log, at most about one megabyte; empty at its end.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "headers": LOG_HEADERS,
        },
        **problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED),
    },
)
def get_job_log(
    services: ToReadJobs,
    job_id: JobPath,
    attempt: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Default: the newest attempt that has a log.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="`Log-Next-Offset` of the last response.")] = 0,
) -> Response:
    """The engine's output in one attempt, also while it runs and after it failed. Continue from `Log-Next-Offset`."""
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
    summary="Get the report of a job",
    tags=["checkpoints"],
    response_class=Response,
    responses={
        200: {
            "description": "A self-contained HTML page.",
            "content": {"text/html": {"schema": {"type": "string"}}},
            "headers": ETAG,
        },
        206: {
            "description": "The requested byte range.",
            "content": {"text/html": {"schema": {"type": "string"}}},
            "headers": ETAG | CONTENT_RANGE,
        },
        304: {"description": "The client's copy is current (`If-None-Match`)."},
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.NO_CHECKPOINT,
            ErrorCode.DELETED,
            ErrorCode.EXPIRED,
            ErrorCode.ARTIFACT_LOST,
            ErrorCode.STORAGE_UNAVAILABLE,
            ErrorCode.RANGE_NOT_SATISFIABLE,
        ),
    },
    openapi_extra=request_headers(
        Range="One byte range.",
        If_Range="`ETag` of the part you have.",
        If_None_Match="`ETag` of the report you have: 304 if it has not changed.",
    ),
)
def get_job_report(services: ToReadJobs, job_id: JobPath, request: Request) -> Response:
    """The report after the newest step, as in the step's folder. 404 `no_checkpoint` before the first step."""
    return file_response(request, services, checkpoints.report_of(services, job_id), inline=True, caching="no-cache")
