"""`/signin` and `/signout`: a user enters a key once, and a session cookie represents it from then on."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from api_schemas.errors import ErrorCode, SecateurError
from service.access import cookies
from service.access.sessions import check_own_page, same_origin
from service.access.turns import FairRoute
from service.dependencies import Public
from service.page.rendering import answer
from service.paths import local_path
from service.problems import status_of
from service.services import Services
from store.access import api_keys, sessions

router = APIRouter(route_class=FairRoute)


@router.get("/signin", include_in_schema=False)
def sign_in_page(
    services: Public, request: Request, following: Annotated[str, Query(alias="next", max_length=2000)] = "/"
) -> Response:
    """The form. Who needs no key, or has a session already, is led on."""
    if services.settings.auth == "none" or _is_signed_in(services, request):
        return RedirectResponse(local_path(following), 303)
    return answer(request, "signin.html.j2", following=local_path(following), refused=None)


@router.post("/signin", include_in_schema=False)
async def sign_in(services: Public, request: Request) -> Response:
    """A new session for the key, and on to where its owner wanted to go; the form again where it is none."""
    fields = await _fields(request)
    following = local_path(fields.get("next"))
    try:
        if not same_origin(request):
            raise SecateurError(ErrorCode.FORBIDDEN, "Sign in on the service's own page.")
        token = await run_in_threadpool(_begin, services, request, fields.get("key", "").strip())
    except SecateurError as error:
        status = status_of(error.code)
        return answer(request, "signin.html.j2", status=status, following=following, refused=error.detail)
    response = RedirectResponse(following, 303)
    cookies.keep(request, response, token)
    return response


@router.post("/signout", include_in_schema=False)
async def sign_out(services: Public, request: Request) -> Response:
    """The session ends here and in the browser. Raises FORBIDDEN where another page asks."""
    fields = await _fields(request)
    response = RedirectResponse("/signin", 303)
    token = cookies.token_of(request)
    if token is not None:
        check_own_page(request, token, fields.get("csrf"))
        await run_in_threadpool(_end, services, token)
        cookies.forget(request, response)
    return response


def _begin(services: Services, request: Request, given: str) -> str:
    if services.settings.auth == "none":
        raise SecateurError(ErrorCode.NOT_FOUND, "This service does not use keys.")
    with services.failed_attempts.counted(request.client.host if request.client else None, given):
        key = api_keys.authenticate(services.database, given)
    before = cookies.token_of(request)
    with services.database.write() as session:
        if before is not None:
            sessions.end(session, before)
        return sessions.begin(session, key, services.settings.session_seconds)


def _end(services: Services, token: str) -> None:
    with services.database.write() as session:
        sessions.end(session, token)


def _is_signed_in(services: Services, request: Request) -> bool:
    token = cookies.token_of(request)
    if token is None:
        return False
    try:
        sessions.authenticate(services.database, token)
    except SecateurError:
        return False
    return True


async def _fields(request: Request) -> dict[str, str]:
    """Of a form as browsers send it by themselves; the first value of each."""
    body = (await request.body()).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(body, max_num_fields=10).items()}
