"""Identifies a caller by the session cookie. Browsers send cookies automatically, so a request that changes something must prove
that it comes from our own page: by its origin, and by a token that only that page has."""

import hmac

from starlette.requests import Request

from api_schemas.errors import ErrorCode, SecateurError
from store.access.sessions import csrf_of

CSRF_HEADER = "x-csrf-token"
CSRF_KEY = "csrf"
"""In `request.state`: the token, for pages to carry."""
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


def check_own_page(request: Request, token: str, given: str | None) -> None:
    """Nothing for a request that only looks. `given`: what it carries. Raises FORBIDDEN."""
    if request.method in _LOOKING:
        return
    if not (same_origin(request) and hmac.compare_digest((given or "").encode(), csrf_of(token).encode())):
        detail = (
            "This change was not requested by the service's own page. Reload the page; programs must send their key "
            "as `Authorization: Bearer sk_…`."
        )
        raise SecateurError(ErrorCode.FORBIDDEN, detail)


def same_origin(request: Request) -> bool:
    """Whether a browser says that our own page asks. The scheme is left out: a proxy may have ended TLS."""
    origins, hosts = request.headers.getlist("origin"), request.headers.getlist("host")
    if len(origins) == 1 and len(hosts) == 1:
        return origins[0].partition("://")[2].lower() == hosts[0].lower()
    return not origins and request.headers.get("sec-fetch-site") == "same-origin"
