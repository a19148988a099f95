"""The session cookie. Over TLS, its name (`__Host-`) makes browsers restrict it to this host and to TLS; no other is accepted."""

from fastapi import Request, Response

_NAME = "secateur-session"


def _name(request: Request) -> str:
    return f"__Host-{_NAME}" if _by_tls(request) else _NAME


def token_of(request: Request) -> str | None:
    """What the browser sent; None where it sent nothing."""
    return request.cookies.get(_name(request)) or None


def keep(request: Request, response: Response, token: str) -> None:
    """Until the browser ends, or the session."""
    response.set_cookie(
        _name(request), token, path="/", httponly=True, samesite="strict", secure=_by_tls(request)
    )  # fmt: skip


def forget(request: Request, response: Response) -> None:
    """The browser's side of signing out."""
    response.delete_cookie(_name(request), path="/", httponly=True, samesite="strict", secure=_by_tls(request))


def _by_tls(request: Request) -> bool:
    return request.url.scheme == "https"
