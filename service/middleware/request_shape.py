"""Refuses requests by their head, before their body is read: too many headers, forms and texts."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from service.middleware.body_limit import is_file
from service.paths import V1
from service.problems import problem

MAX_HEADERS = 100
"""How many; together they have at most the 16 KiB that the HTTP library reads."""
_FORM = "application/x-www-form-urlencoded"


class RequestShape:
    """ASGI middleware: 431 and 415."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = _refusal(scope) if scope["type"] == "http" else None
        if error is None:
            await self.app(scope, receive, send)
        else:
            await problem(Request(scope), error, headers={"Connection": "close"})(scope, receive, send)


def _refusal(scope: Scope) -> SecateurError | None:
    if len(scope["headers"]) > MAX_HEADERS:
        detail = f"The request has {len(scope['headers'])} headers; the maximum is {MAX_HEADERS}."
        return SecateurError(ErrorCode.HEADERS_TOO_LARGE, detail)
    headers = Headers(scope=scope)
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    # A file is what its name and its bytes say, whatever its type says; on the page browsers send forms of their own.
    is_json = scope["path"].startswith(f"{V1}/") and not is_file(scope) and has_body(headers)
    if kind.startswith("multipart/") or (is_json and (kind == _FORM or kind.startswith("text/"))):
        detail = (
            f"{kind[:100]} is not accepted. Send JSON as application/json, and each file as the whole body of its PUT."
        )
        return SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, detail)
    return None


def has_body(headers: Headers) -> bool:
    """Whether one is announced that is not empty."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
