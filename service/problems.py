"""Every error as `application/problem+json` (RFC 9457): one format for validation, refusals, missing resources and failures."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from api_schemas import validation_messages
from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.errors import ErrorCode, ErrorItem, Problem, SecateurError
from store.database.connection import UNREACHABLE

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
MAX_ITEMS = 100

# Refused content is 422, whatever was wrong with it; only these differ.
_STATUS = {
    ErrorCode.IDEMPOTENCY_KEY_INVALID: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NO_CHECKPOINT: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.TOO_SLOW: 408,
    ErrorCode.CONFLICT: 409,
    ErrorCode.UPLOAD_CLOSED: 409,
    ErrorCode.UPLOAD_INCOMPLETE: 409,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 409,
    ErrorCode.DELETED: 410,
    ErrorCode.ARTIFACT_LOST: 410,
    ErrorCode.UPLOAD_OFFSET: 409,
    ErrorCode.EXPIRED: 410,
    ErrorCode.TUS_VERSION: 412,
    ErrorCode.REQUEST_TOO_LARGE: 413,
    ErrorCode.MEDIA_TYPE_REFUSED: 415,
    ErrorCode.RANGE_NOT_SATISFIABLE: 416,
    ErrorCode.TOO_MANY_STREAMS: 429,
    ErrorCode.HEADERS_TOO_LARGE: 431,
    ErrorCode.PIECE_CHECKSUM_MISMATCH: 460,
    ErrorCode.HOST_REFUSED: 421,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUOTA_EXCEEDED: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.STORAGE_UNAVAILABLE: 503,
    ErrorCode.STORAGE_FULL: 507,
}


class BodyRefused(HTTPException):
    """An error that is found while the body is read: the framework lets no other through from there."""

    def __init__(self, error: SecateurError) -> None:
        super().__init__(status_of(error.code), error.detail)
        self.error = error


_CODE_BY_STATUS = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 413: ErrorCode.REQUEST_TOO_LARGE}


def status_of(code: ErrorCode) -> int:
    """The HTTP status in which a code is said."""
    return _STATUS.get(code, 422)


def problem(
    request: Request, error: SecateurError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for an error."""
    status = status or status_of(error.code)
    body = Problem(
        title=ERROR_TEXTS[error.code].title,
        status=status,
        code=error.code,
        detail=error.detail,
        instance=request.url.path,
        request_id=request_id_of(request),
        errors=error.errors[:MAX_ITEMS],
    )
    retry_after = error.retry_after or (RETRY_SECONDS if status in (503, 507) else None)
    extra = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="secateur"'
    return Response(body.model_dump_json(), status, {**extra, **(headers or {})}, MEDIA_TYPE)


def request_id_of(request: Request) -> str | None:
    """As service/middleware/request_log.py has set it."""
    return getattr(request.state, "request_id", None)


async def answer_to(request: Request, error: Exception) -> Response:
    """The response for an error where no handler is in charge: in a middleware, in a route that adds to every answer."""
    if isinstance(error, SecateurError):
        return problem(request, error)
    if isinstance(error, RequestValidationError):
        return await _not_valid(request, error)
    if isinstance(error, UNREACHABLE):
        return await _unreachable(request, error)
    return await _unexpected(request, error)


def install(app: FastAPI) -> None:
    """Make `app` answer every error so."""
    app.add_exception_handler(SecateurError, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(ClientDisconnect, _gone)
    for unreachable in UNREACHABLE:
        app.add_exception_handler(unreachable, _unreachable)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SecateurError)
    return problem(request, error)


async def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = validation_messages.without_echoes(error.errors())
    # An identifier in the path that is not one of ours names nothing: to a client that is simply absent.
    if any(item["loc"][:1] == ("path",) for item in found):
        return problem(request, SecateurError(ErrorCode.NOT_FOUND, f"There is nothing at {request.url.path}."))
    # What is left as bytes was not read as JSON, since it does not say that it is.
    if isinstance(error.body, bytes):
        detail = (
            "This call requires JSON with the header `Content-Type: application/json`, but received "
            f"{_kind_of(request)}."
        )
        return problem(request, SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, detail))
    items = tuple(_item(item, error.body) for item in found)
    if all(item.pointer == "" for item in items) and not error.body:
        detail = "The body must be a JSON object, with the header `Content-Type: application/json`."
        return problem(request, SecateurError(ErrorCode.INVALID_REQUEST, detail))
    first = f"{items[0].pointer}: {items[0].detail}".lstrip(": ")
    more = f" ({len(items) - 1} more in `errors`)" if len(items) > 1 else ""
    name_refused = all(item.code == ErrorCode.FILE_NAME_REFUSED for item in items)
    code = ErrorCode.FILE_NAME_REFUSED if name_refused else ErrorCode.INVALID_REQUEST
    return problem(request, SecateurError(code, f"{first}{more}.", items))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, BodyRefused):
        return problem(request, error.error)
    status, headers = error.status_code, error.headers
    if status == 405:
        allowed = ", ".join(sorted(_methods_at(request)))
        headers = {"Allow": allowed}
        detail = f"{request.method} is not allowed on {request.url.path}; allowed: {allowed}."
    elif status == 404:
        detail = f"There is nothing at {request.url.path}. The calls are listed at /docs."
    elif status == 400:
        status, detail = (
            422,
            "The body cannot be read: it must be JSON, without extremely long numbers or extremely deep nesting.",
        )
    else:
        detail = str(error.detail)
    return problem(
        request, SecateurError(_CODE_BY_STATUS.get(status, ErrorCode.INVALID_REQUEST), detail), status, headers
    )


def _methods_at(request: Request) -> set[str]:
    """Every method of this address, tried in turn: the framework names those of one route with the address only."""
    methods = {
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return methods | {"HEAD"} if "GET" in methods else methods


async def _not_storable(request: Request, error: Exception) -> Response:
    log.info("the database rejected a value: %s", type(error).__name__)
    detail = "A text in the request contains a character that cannot be stored, such as NUL."
    return problem(request, SecateurError(ErrorCode.INVALID_REQUEST, detail))


async def _gone(request: Request, _: Exception) -> Response:
    return problem(
        request,
        SecateurError(ErrorCode.INVALID_REQUEST, "The connection ended before the body was complete."),
        400,
    )


async def _unreachable(request: Request, error: Exception) -> Response:
    log.error("the database does not respond: %s", error)
    detail = "The database does not respond. Nothing was changed; try again."
    return problem(request, SecateurError(ErrorCode.UNAVAILABLE, detail))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected failure of %s %s", request.method, request.url.path, exc_info=error)
    detail = "An unexpected error occurred in the service; the operator's log contains the details."
    # Sent from outside of service/middleware/request_log.py, which puts the name of the request on every other answer.
    headers = {"X-Request-ID": request_id} if (request_id := request_id_of(request)) else None
    return problem(request, SecateurError(ErrorCode.INTERNAL, detail), headers=headers)


def _kind_of(request: Request) -> str:
    """What the body says that it is, in words."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    return f"a body of type {kind[:100]}" if kind else "a body without a content type"


def _item(item: Mapping[str, Any], body: Any) -> ErrorItem:
    location: tuple[str | int, ...] = item["loc"]
    is_file_name = location[:1] == ("body",) and location[-1:] == ("name",) and "files" in location
    refused = is_file_name and item["type"] in ("string_pattern_mismatch", "string_too_long")
    code = ErrorCode.FILE_NAME_REFUSED if refused else ErrorCode.INVALID_REQUEST
    if item["type"] == "json_invalid":
        reason = str(item.get("ctx", {}).get("error", "syntax error"))
        return ErrorItem(code=code, detail=f"the body is not JSON (at character {location[-1]}: {reason})")
    # Of a parameter that may be given several times the place among them is left out: addresses do not number them.
    in_body = location[0] == "body"
    pointer = (
        validation_messages.pointer(location[1:], body) if in_body else validation_messages.json_pointer(location[:2])
    )
    return ErrorItem(pointer=pointer, code=code, detail=validation_messages.reason(item)[:500])
