"""Responses for polling clients: `ETag`, 304 if nothing has changed, `Retry-After` while something may."""

import hashlib
from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

from service.responses import ranges

POLL_SECONDS = 2
NOT_MODIFIED = "Nothing has changed since `If-None-Match`."
IfNoneMatch = Annotated[str | None, Header(description="`ETag` of the last response.")]


def polled(resource: BaseModel, if_none_match: str | None, *, living: bool) -> Response:
    """The resource, or 304. `living`: whether it may still change by itself."""
    body = resource.model_dump_json()
    headers = {"ETag": f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if living:
        headers["Retry-After"] = str(POLL_SECONDS)
    if ranges.matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
