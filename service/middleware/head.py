"""Answers HEAD wherever GET is answered (RFC 9110, 9.3.2), for load balancers and download managers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATE_KEY = "head"


class HeadAsGet:
    """ASGI middleware: a HEAD request is routed as GET and its answer sent without the body.

    `request.state.head` is set on it, so that a route need not read a body that will not be sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        state = {**scope.get("state", {}), STATE_KEY: True}
        await self.app({**scope, "method": "GET", "state": state}, receive, without_body)
