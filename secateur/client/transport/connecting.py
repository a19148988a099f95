"""From what a user gives, or the environment, to a connection."""

import os
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx

from secateur.client.transport.backend import Backend
from secateur.client.transport.connection import Connection
from secateur.errors import InvalidRequest

URL, API_KEY = "SECATEUR_URL", "SECATEUR_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def address(url: str | None) -> str:
    """The service's URL without a slash at its end. Raises InvalidRequest."""
    given = (url or os.environ.get(URL) or DEFAULT_URL).strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            f"{given!r} is no URL of a service. Give one such as {DEFAULT_URL}.", code="invalid_request"
        )
    return given


def http_options(url: str, timeout: float) -> dict[str, object]:
    """Of httpx's clients. No proxy of the environment stands between a machine and itself."""
    trust = urlsplit(url).hostname not in _THIS_MACHINE
    return {"timeout": httpx.Timeout(timeout, connect=min(10.0, timeout)), "trust_env": trust}


def connection(backend: Backend, url: str, api_key: str | None, retries: int) -> Connection:
    """With the key of the environment where none is given. Raises InvalidRequest for a key that no header can carry."""
    key = (api_key if api_key is not None else os.environ.get(API_KEY, "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("The API key has characters that no key has. Copy it again: sk_…", code="unauthenticated")
    return Connection(backend, url, key or None, retries, f"secateur-python/{version('secateur')}")
