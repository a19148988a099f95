"""Connections to checked addresses only: a name is resolved once, and the connection goes to the address that was checked.

TLS still names and verifies the host. A connection has one deadline for everything that happens on it, so a peer that sends a
byte now and then blocks nobody.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from store.outbound.addresses import is_public
from store.outbound.url_rules import UrlRules, refused

Resolve = Callable[[str, int], Sequence[str]]
CONNECT_SECONDS = 10.0


def system_resolve(host: str, port: int) -> Sequence[str]:
    """Every address of the name, as this machine's resolver says. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedBackend(httpcore.NetworkBackend):
    """Connects where the rules allow it, until `deadline` (of time.monotonic)."""

    def __init__(
        self,
        rules: UrlRules,
        deadline: float,
        resolve: Resolve = system_resolve,
        dial: httpcore.NetworkBackend | None = None,
    ) -> None:
        self._rules = rules
        self._deadline = deadline
        self._resolve = resolve
        self._dial = dial or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is what counts
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises TARGET_REFUSED where one address of the name is not public, before anything is connected to."""
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._addresses(host, port):
            wait = min(CONNECT_SECONDS, remaining(self._deadline))
            try:
                stream = self._dial.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _UntilDeadline(stream, self._deadline)
        raise failure

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Never."""
        raise refused("it is not a network address")

    def check(self, host: str, port: int) -> None:
        """Judge the addresses a name has now; one that has none yet may get some. Raises TARGET_REFUSED."""
        with contextlib.suppress(httpcore.ConnectError):
            self._addresses(host, port)

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        if self._rules.is_test_target(host, port):
            return [host]
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        # One inside among many outside is how a name is made to point both ways.
        if not all(map(is_public, found)):
            raise refused(f"{host} resolves to an address that is not on the public internet")
        return found


class _UntilDeadline(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._left(timeout))
        return _UntilDeadline(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self, timeout: float | None) -> float:
        left = remaining(self._deadline)
        return left if timeout is None else min(timeout, left)


def remaining(deadline: float) -> float:
    """Seconds until `deadline`. Raises httpcore.ReadTimeout after it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time limit of the call has passed")
    return left
