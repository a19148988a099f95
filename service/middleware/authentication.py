"""Authenticates the caller before anything else of a request is read: its body, its address, its parameters."""

import structlog
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from service.access import cookies
from service.access.caller import ANYBODY, CALLER_KEY, Caller
from service.access.sessions import CSRF_HEADER, CSRF_KEY, check_own_page
from service.paths import V1, needs_caller
from service.problems import answer_to
from service.services import Services
from store.access import api_keys, sessions
from store.database.tables import ApiKey

THREADS = 8


class Authenticate:
    """ASGI middleware: below /v1 and on the pages it stops requests without a valid key (setting `auth`), over the tenant's
    rate limit, or from an address that sent too many invalid keys.

    `request.state.caller` is set there, for service/dependencies.py. All other addresses are public.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services
        self.threads = CapacityLimiter(THREADS)
        self.waits = services.settings.auth != "none" or services.rate_limits.remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_somebodys(scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            # A thread costs more than all the rest where there is nothing to wait for. Else it is one of their own: whose turn it
            # is can only be said of somebody who is known.
            if self.waits:
                caller = await to_thread.run_sync(self._caller, request, limiter=self.threads)
            else:
                caller = self._caller(request)
        except Exception as error:
            await (await answer_to(request, error))(scope, receive, send)
            return
        setattr(request.state, CALLER_KEY, caller)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant, key_id=caller.key_id)
        if caller.key_id is None:
            await self.app(scope, receive, send)
        else:
            await self.services.long_requests.run(caller, self.app, scope, receive, send)

    def _caller(self, request: Request) -> Caller:
        request_id = getattr(request.state, "request_id", None)
        if self.services.settings.auth == "none":
            caller = Caller(ANYBODY.tenant, ANYBODY.scopes, request_id=request_id)
        else:
            session = None if "authorization" in request.headers else cookies.token_of(request)
            key = self._key(request, session)
            caller = Caller(key.tenant, frozenset(key.scopes), key.id, request_id, session)
        self.services.rate_limits.count(caller.tenant)
        return caller

    def _key(self, request: Request, session: str | None) -> ApiKey:
        """The key that was sent, or that the browser's `session` was begun with."""
        address = request.client.host if request.client else None
        if session is None:
            token = _token(request)
            with self.services.failed_attempts.counted(address, token):
                return api_keys.authenticate(self.services.database, token)
        with self.services.failed_attempts.counted(address, session):
            key = sessions.authenticate(self.services.database, session)
        check_own_page(request, session, request.headers.get(CSRF_HEADER))
        setattr(request.state, CSRF_KEY, sessions.csrf_of(session))
        return key


def _is_somebodys(path: str) -> bool:
    return f"{path}/".startswith(f"{V1}/") or needs_caller(path)


def _token(request: Request) -> str:
    given = request.headers.getlist("authorization")
    kind, _, token = given[0].strip().partition(" ") if len(given) == 1 else ("", "", "")
    if kind.lower() != "bearer" or not token:
        detail = (
            "This call requires an API key. Send it as `Authorization: Bearer sk_…`; an administrator can create keys."
        )
        raise SecateurError(ErrorCode.UNAUTHENTICATED, detail)
    return token.strip()
