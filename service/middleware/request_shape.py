"""What is refused of every request before anything of its body is read: too many headers, and forms."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from service.problems import problem

MAX_HEADERS = 100
"""How many; together they have at most the 16 KiB that the HTTP library reads."""


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
        detail = f"The request has {len(scope['headers'])} headers; {MAX_HEADERS} are read."
        return SecateurError(ErrorCode.HEADERS_TOO_LARGE, detail)
    kind = Headers(scope=scope).get("content-type", "")
    if kind.strip().lower().startswith("multipart/"):
        detail = "Forms are not read. Send JSON as JSON, and a file as the whole body of its PUT."
        return SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, detail)
    return None
