"""The only HTTP client for outside addresses: a request that follows the rules, with its response streamed and counted.

Nothing is remembered between calls (no cookies, no connections), nothing is read from the environment (no proxies), and a
redirect is a new URL that is checked like the first.
"""

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import httpcore
import httpx

from store.outbound.network_backend import CheckedBackend, Resolve, system_resolve
from store.outbound.url_rules import UrlRules, parse

REDIRECTS = frozenset({301, 302, 303, 307, 308})
SILENCE_SECONDS = 30.0
AGENT = "Secateur"


class Unreachable(Exception):
    """No answer that can be used came; trying again later may help. The text says why, in words for the caller."""


class OutboundClient:
    """Calls by `rules`. Safe to share between threads."""

    def __init__(
        self,
        rules: UrlRules,
        resolve: Resolve = system_resolve,
        dial: httpcore.NetworkBackend | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`dial` connects to addresses that passed; `trust` verifies certificates, the usual authorities by default."""
        self._rules = rules
        self._resolve = resolve
        self._dial = dial
        self._trust = trust

    def check(self, url: str, hosts: Sequence[str] | None = None) -> None:
        """Judge a URL now, its addresses too where it has any yet; every call judges it again. Raises TARGET_REFUSED."""
        parsed = parse(url, self._rules, hosts)
        backend = CheckedBackend(self._rules, time.monotonic() + SILENCE_SECONDS, self._resolve)
        backend.check(parsed.raw_host.decode("ascii"), parsed.port or 443)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        redirects: int = 0,
        hosts: Sequence[str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer, whatever its status, its body not read yet; `body` reads it.

        At most `redirects` are followed, each to one of `hosts`; the authorization stays with the host it was meant for.
        All of it within `seconds`. Raises TARGET_REFUSED or Unreachable.
        """
        deadline = time.monotonic() + seconds
        target = parse(url, self._rules, hosts)
        sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})}
        for left in range(redirects, -1, -1):
            with self._client(deadline) as client, _plain_words(target.host):
                request = client.build_request(method, target, headers=sent, content=content)
                response = client.send(request, stream=True)
                try:
                    if response.status_code not in REDIRECTS or redirects == 0 or "location" not in response.headers:
                        yield response
                        return
                    following = self._following(target, response.headers["location"], hosts)
                finally:
                    response.close()
            if left == 0:
                break
            if following.netloc != target.netloc or following.scheme != target.scheme:
                sent = {name: value for name, value in sent.items() if name.lower() != "authorization"}
            target = following
        raise Unreachable(f"the server redirected more than {redirects} times")

    def _following(self, target: httpx.URL, location: str, hosts: Sequence[str] | None) -> httpx.URL:
        try:
            joined = str(target.join(location))
        except httpx.InvalidURL:
            raise Unreachable("the server redirected to an invalid URL") from None
        return parse(joined, self._rules, hosts)

    def _client(self, deadline: float) -> httpx.Client:
        backend = CheckedBackend(self._rules, deadline, self._resolve, self._dial)
        transport = _CheckedTransport(backend, self._trust or _usual_authorities())
        return httpx.Client(transport=transport, trust_env=False, timeout=SILENCE_SECONDS, follow_redirects=False)


class _CheckedTransport(httpx.HTTPTransport):
    """httpx' own transport over a pool that connects by our backend, which httpx has no argument for."""

    def __init__(self, backend: CheckedBackend, trust: ssl.SSLContext) -> None:
        super().__init__(verify=trust, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=trust, max_connections=1, max_keepalive_connections=0, network_backend=backend
        )


def body(response: httpx.Response, most: int) -> Iterator[bytes]:
    """The answer's bytes as they come. Raises Unreachable where there are more than `most`, or they are compressed."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreachable("the response has a content encoding that was not requested")
    received = 0
    for chunk in response.iter_raw():
        received += len(chunk)
        if received > most:
            raise Unreachable(f"the response is larger than {most} bytes")
        yield chunk


@lru_cache(maxsize=1)
def _usual_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


@contextmanager
def _plain_words(host: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException:
        raise Unreachable("the server did not respond in time") from None
    except httpx.ConnectError as error:
        if "CERTIFICATE" in str(error):
            raise Unreachable(f"its certificate is not valid for {host}") from None
        raise Unreachable(f"no connection could be made to {host}") from None
    except (httpx.HTTPError, httpcore.TimeoutException):
        raise Unreachable("the server closed the connection, or does not speak HTTP") from None
