"""Limits every request body except file uploads, which have their own limits: counts bytes as they arrive and does not trust
headers."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.paths import V1


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` ends as 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_file(scope):
            await self.app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                # Raised where the body is read, inside the application, so that it is answered like any other error.
                raise HTTPException(
                    413, f"The body is larger than {self.max_bytes} bytes, the limit shown by GET /v1/limits."
                )
            return message

        await self.app(scope, counted, send)


def is_file(scope: Scope) -> bool:
    """Whether the body is bytes of a file, which its route bounds."""
    method: str = scope["method"]
    path: str = scope["path"]
    return method == "PUT" or (method == "PATCH" and path.startswith(f"{V1}/uploads/"))
