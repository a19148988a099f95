"""What every response of the page has: restrictive headers, and errors as pages."""

from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_schemas.errors import Problem
from service.page.rendering import answer
from service.paths import is_page, local_path
from service.problems import MEDIA_TYPE, answer_to

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageAnswers:
    """ASGI middleware: of an address of the page, the headers; to a browser that was refused, a page with the reason.

    Who has not signed in is led there. What answers programs is left alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        held: Message | None = None
        body = b""
        begun = False

        async def dressed(message: Message) -> None:
            nonlocal held, body, begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                if _says_problem(headers) and _is_browser(request):
                    held = message
                    return
            elif held is not None:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    told = _page(request, held, body)
                    told.headers.update(SECURITY_HEADERS)
                    await told(scope, receive, send)
                return
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        except Exception as error:
            if begun:
                raise
            await (await answer_to(request, error))(scope, receive, dressed)


def _says_problem(headers: Headers) -> bool:
    return headers.get("content-type") == MEDIA_TYPE


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers


def _page(request: Request, start: Message, body: bytes) -> Response:
    """For the answer that was held back: the way to sign in, or a page that says what its body says."""
    status = start["status"]
    if status == HTTPStatus.UNAUTHORIZED:
        return _sign_in(request)
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return Response(body, status, media_type=MEDIA_TYPE)
    made = answer(request, "problem.html.j2", status=status, problem=problem)
    if retry_after := Headers(scope=start).get("retry-after"):
        made.headers["Retry-After"] = retry_after
    return made


def _sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:
        # A script follows a redirect unseen and would put the form into the middle of the page.
        return Response(status_code=401, headers={"HX-Refresh": "true"})
    asked = str(request.url.replace(scheme="", netloc=""))
    back = f"?next={quote(local_path(asked), safe='')}" if asked != "/" else ""
    return Response(status_code=303, headers={"Location": f"/signin{back}"})
