"""One service and one key: requests that are retried if that is safe, responses as models or as errors."""

import logging
import os
import random
import re
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from api_schemas.api.resources import Page
from secateur import errors
from secateur.client.transport.backend import Backend
from secateur.client.transport.problems import error_of

M = TypeVar("M", bound=BaseModel)
log = logging.getLogger("secateur")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")

URL, API_KEY = "SECATEUR_URL", "SECATEUR_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})

RETRIED = frozenset({408, 429, 502, 503, 504})
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds. A longer wait is not done; the error reports it."""
_PAGE = 100


class Connection:
    """What every call goes through. `retries`: how often a request is sent again after the first time; `first_retries`: how often
    while nothing has answered at all yet."""

    def __init__(
        self, backend: Backend, url: str, api_key: str | None, retries: int, first_retries: int, agent: str
    ) -> None:
        self.backend, self.retries = backend, retries
        self.url, user = separated(url)
        self._first_retries, self._answered = first_retries, False
        self._headers = {"User-Agent": agent} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        if user is not None:
            # In place of a key, as HTTP clients do: a proxy before the service asks for it.
            self._headers["Authorization"] = f"Basic {b64encode(':'.join(user).encode()).decode()}"

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: bool | str = False,
        once: bool = False,
        patience: float | None = None,
        retries: int | None = None,
        **more: Any,
    ) -> httpx.Response:
        """The answer to a request below `/v1`, read whole.

        Args:
            key: whether it makes something; one `Idempotency-Key` for all tries, this or a fresh one, makes repeating safe.
            once: whether a repetition would do it twice; it is sent again only where it cannot have been heard.
            patience: seconds to wait for an answer.
            retries: others than the connection's.
            more: `json`, `content`, `params`, `headers` as httpx takes them.

        Raises what the answer says, or ConnectionFailed.
        """
        headers = dict(more.pop("headers", None) or {})
        if key:
            headers["Idempotency-Key"] = f'"{key if isinstance(key, str) else uuid.uuid4()}"'
        most = self.retries if retries is None else retries
        for tried in range(most + 1):
            last = tried == most
            try:
                response = await self.open(method, path, patience=patience, headers=headers, **more)
                try:
                    await self.backend.read(response)
                finally:
                    await self.backend.close(response)
            except httpx.TransportError as error:
                heard = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                last = last or (not self._answered and tried >= self._first_retries)
                failed = self.unreachable(method, path, error)
                if last or hopeless(error) or (once and heard):
                    raise failed from error
                await self.pause(failed, tried, most if self._answered else min(most, self._first_retries))
                continue
            self._answered = True
            if response.status_code < 300 or response.status_code == 304:
                return response
            problem = error_of(response)
            if last or not _may_pass(problem, once):
                raise problem
            await self.pause(problem, tried, most)
        raise AssertionError("the last try returns or raises")

    async def pause(self, failed: errors.SecateurError, tried: int, most: int) -> None:
        """Wait before the next of `most` tries again; the log says why."""
        seconds = delay(tried, failed.retry_after)
        log.warning("%s Trying again in %.1f s (%d of %d).", failed.detail, seconds, tried + 1, most)
        await self.backend.sleep(seconds)

    async def open(self, method: str, path: str, *, patience: float | None = None, **more: Any) -> httpx.Response:
        """One try; the answer's body is still to be read and to be closed. Raises httpx.TransportError."""
        headers = {**self._headers, **(more.pop("headers", None) or {})}
        if patience is not None:
            more["timeout"] = httpx.Timeout(60, connect=10, read=patience)
        request = self.backend.request(method, f"{self.url}/v1{path}", headers=headers, **more)
        return await self.backend.send(request)

    async def get(self, kind: type[M], path: str, **more: Any) -> M:
        """GET, as a model."""
        return parsed(kind, await self.call("GET", path, **more))

    async def post(self, kind: type[M], path: str, body: Mapping[str, Any] | None = None, **more: Any) -> M:
        """POST, as a model."""
        return parsed(kind, await self.call("POST", path, json=body, **more))

    async def delete(self, path: str) -> None:
        """DELETE. What is gone already is no error: a first try may have done it."""
        try:
            await self.call("DELETE", path)
        except errors.NotFound as error:
            if error.code != "deleted":
                raise

    async def pages(self, kind: type[M], path: str, **params: Any) -> AsyncGenerator[M]:
        """Every item of a list, page by page as they are asked for."""
        cursor: str | None = None
        while True:
            wanted = {name: value for name, value in params.items() if value is not None}
            response = await self.call(
                "GET", path, params={"limit": _PAGE, **wanted, **({"cursor": cursor} if cursor else {})}
            )
            page = parsed(Page[kind], response)  # type: ignore[valid-type]
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    def unreachable(self, method: str, path: str, error: Exception) -> errors.ConnectionFailed:
        """A sentence for a connection that failed."""
        reason = _ERRNO.sub("", str(error)).rstrip(".") or type(error).__name__
        detail = f"{method} {self.url}/v1{path} got no answer: {reason}."
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            detail = f"Nothing answers at {self.url} ({reason})."
        advice = "Is this the service's URL, and is it running?"
        return errors.ConnectionFailed(detail, code="connection_failed", advice=advice)


def delay(tried: int, retry_after: float | None = None) -> float:
    """Seconds before the next try: what the service says, else twice as long every time; spread, so that clients do not come in
    step."""
    if retry_after is not None:
        return retry_after + random.uniform(0, 0.25)
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0**tried) * random.uniform(0.5, 1.0)


def hopeless(error: httpx.TransportError) -> bool:
    """Whether trying again cannot help: an address that is none."""
    return isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)


def parsed(kind: type[M], response: httpx.Response) -> M:
    """An answer's body. Raises UnexpectedAnswer."""
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        detail = (
            f"The response of {response.request.url} is not that of a Secateur service of this version "
            f"({where or 'body'}: {first['msg']}). "
            "Check the URL, or install the client of the service's version: pip install . in a checkout of it."
        )
        raise errors.UnexpectedAnswer(detail, code="unexpected_answer", status=response.status_code) from error


def segment(text: str | int) -> str:
    """Text as one segment of a path, whatever it holds."""
    # A dot segment is resolved away even where its dots are escaped.
    escaped = quote(str(text), safe="")
    if escaped in ("", ".", ".."):
        raise errors.InvalidRequest(f"{text!r} is not an identifier.", code="invalid_request")
    return escaped


def _may_pass(problem: errors.SecateurError, once: bool) -> bool:
    if problem.code == "idempotency_in_progress":
        return True
    if problem.status not in RETRIED or isinstance(problem, errors.QuotaExceeded):
        return False
    return (not once or problem.status == 429) and (problem.retry_after or 0) <= LONGEST_RETRY_AFTER


def address(url: str | None) -> str:
    """The service's URL without a slash at its end. Raises InvalidRequest."""
    given = (url or os.environ.get(URL) or DEFAULT_URL).strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        # ValueError where it is no number.
        usable = usable and (parts.port is None or parts.port >= 0)
    except ValueError:
        usable = False
    if not usable:
        # Not a URL, so it is unclear where in it a password ends.
        _, at, shown = given.rpartition("@")
        shown = f"***@{shown}" if at else shown
        raise errors.InvalidRequest(
            f"{shown!r} is not the URL of a service. Give one such as {DEFAULT_URL}.", code="invalid_request"
        )
    return given


def separated(url: str) -> tuple[str, tuple[str, str] | None]:
    """A service's URL without user and password, and these: whatever names the URL then cannot give them away."""
    user, at, host = (parts := urlsplit(url)).netloc.rpartition("@")
    if not at:
        return url, None
    name, _, password = user.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(name), unquote(password))


def http_options(url: str, timeout: float) -> dict[str, object]:
    """Of httpx's clients. No proxy of the environment stands between a machine and itself."""
    trust = urlsplit(url).hostname not in _THIS_MACHINE
    return {"timeout": httpx.Timeout(timeout, connect=min(10.0, timeout)), "trust_env": trust}


def open_connection(
    backend: Backend, url: str, api_key: str | None, retries: int, first_retries: int | None = None
) -> Connection:
    """With the key of the environment where none is given. Raises InvalidRequest for a key that no header can carry."""
    key = (api_key if api_key is not None else os.environ.get(API_KEY, "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise errors.InvalidRequest(
            "The API key contains characters that no key contains. Copy it again: sk_…", code="unauthenticated"
        )
    first = retries if first_retries is None else first_retries
    return Connection(backend, url, key or None, retries, first, f"secateur-python/{version('secateur')}")


def id_of(given: Any) -> str:
    """The identifier of what a call was given: itself, or the `id` of an object."""
    return given if isinstance(given, str) else str(given.id)
