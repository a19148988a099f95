"""The events of a job: as pages, or as a stream for as long as the job lives."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from api_schemas.api.resources import Page
from api_schemas.enums import TERMINAL_STATES
from api_schemas.errors import ErrorCode
from api_schemas.results.events import JobEvent
from service.access.turns import FairRoute
from service.core.jobs import jobs
from service.dependencies import ToReadJobs
from service.event_streams import EventStreamResponse
from service.middleware.head import STATE_KEY
from service.openapi.document import ETAG, RETRY_AFTER, problems, sometimes
from service.responses.polling import NOT_MODIFIED, IfNoneMatch, polled
from service.routes.parameters import JobPath
from service.services import Services

router = APIRouter(prefix="/jobs/{job_id}/events", tags=["jobs"], route_class=FairRoute)

_LARGEST = 2**31 - 1
_STREAM = "text/event-stream"


@router.get(
    "",
    operation_id="list_job_events",
    summary="List or stream the events of a job",
    response_model=Page[JobEvent],
    responses={
        200: {
            "description": "A page of events; with `Accept: text/event-stream`, a stream of server-sent events, each with a "
            "JobEvent as `data` and its `seq` as `id`.",
            # A schema would be of the events as objects, which OpenAPI 3.1 has no words for.
            "content": {_STREAM: {}},
            "headers": sometimes(ETAG | RETRY_AFTER),
        },
        204: {
            "description": "For a stream: the job has ended, and all its events have been sent or removed. Do not reconnect."
        },
        304: {"description": NOT_MODIFIED, "headers": ETAG | sometimes(RETRY_AFTER)},
        **problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED, ErrorCode.TOO_MANY_STREAMS),
    },
)
async def list_job_events(
    services: ToReadJobs,
    request: Request,
    job_id: JobPath,
    after: Annotated[int, Query(ge=0, le=_LARGEST, description="Only events with a greater number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum events per page. A stream has no limit.")] = 200,
    accept: Annotated[
        str | None, Header(description="`text/event-stream` to receive a stream.", examples=["text/event-stream"])
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=_LARGEST, description="For a stream: continue after this event. Overrides `after`."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Oldest first. `next_cursor` is the `after` of the next page; null on the last page.

    A stream sends the existing events, then new ones as they happen, with a comment now and then while nothing happens, and
    ends with the job. A client that reconnects with `Last-Event-ID` or `after` misses no event and gets none twice.
    """
    if any(kind.split(";")[0].strip().lower() == _STREAM for kind in (accept or "").split(",")):
        return await _stream(services, request, job_id, after if last_event_id is None else last_event_id)
    return await services.in_thread(_page, services, job_id, after, limit, if_none_match)


async def _stream(services: Services, request: Request, job_id: str, after: int) -> Response:
    newest, over = await services.in_thread(jobs.stream_from, services, job_id, after)
    if over:
        return Response(status_code=204)
    if getattr(request.state, STATE_KEY, False):
        return Response(media_type=_STREAM)
    services.streams.reserve(services.tenant)
    stream = services.streams.stream(services.tenant, job_id, after, newest)
    return EventStreamResponse(stream, partial(services.streams.release, services.tenant))


def _page(services: Services, job_id: str, after: int, limit: int, if_none_match: str | None) -> Response:
    # One more than asked for says whether there is another page.
    found, state = jobs.events(services, job_id, after, limit + 1)
    items = tuple(found[:limit])
    page = Page[JobEvent](items=items, next_cursor=str(items[-1].seq) if len(found) > limit else None)
    return polled(page, if_none_match, living=state not in TERMINAL_STATES)
