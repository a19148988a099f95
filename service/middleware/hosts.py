"""Which requests the service answers at all: by the addresses of the connection, and by the host name that was used.

Without keys the service is for this machine only. This must not depend on how it was started (binding it to all addresses would
expose it to the network), so every connection is checked: both of its ends must be loopback. A browser on this machine could also
be used by a malicious page (DNS rebinding), so the host name must be one of this machine's, and a page that calls must be our
own.
"""

import ipaddress
import re

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api_schemas.errors import ErrorCode, SecateurError
from service.problems import problem
from store.settings import Settings

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+)(?::\d+)?")


class KnownHosts:
    """ASGI middleware: 421 `host_refused` for a name that is not ours; 403 `forbidden` for callers from elsewhere."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.keyless = settings.auth == "none"
        self.names = {name.lower().rstrip(".") for name in settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            refusal = self._refusal(request)
            if refusal is not None:
                await problem(request, refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> SecateurError | None:
        if self.keyless and not all(_is_local(request.scope.get(end)) for end in ("server", "client")):
            detail = (
                "This service runs without API keys and accepts requests only from its own machine. To allow others, "
                "the operator must set SECATEUR_AUTH=keys and create a key."
            )
            return SecateurError(ErrorCode.FORBIDDEN, detail)
        hosts = request.headers.getlist("host")
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (_is_loopback(name) or name in self.names or "*" in self.names):
            detail = "The host name in `Host` is not accepted. The operator can add names to SECATEUR_ALLOWED_HOSTS."
            return SecateurError(ErrorCode.HOST_REFUSED, detail)
        origins = request.headers.getlist("origin")
        if self.keyless and any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
            detail = (
                "A service without API keys does not accept requests from pages of other origins. Use its own page, "
                "or API keys."
            )
            return SecateurError(ErrorCode.FORBIDDEN, detail)
        return None


def _is_local(end: tuple[str, int | None] | None) -> bool:
    """None is a Unix socket, where the file's permissions say who may connect."""
    return end is None or end[1] is None or _is_loopback(end[0])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None)
    return (inner or address).is_loopback


def _name(authority: str) -> str | None:
    """`example.org:8000` is example.org, `[::1]:8000` is ::1; None for what is no authority."""
    match = _AUTHORITY.fullmatch(authority.strip())
    return match[1].strip("[]").lower().rstrip(".") if match else None
