"""Counts refused keys by client address, so that guessing keys soon causes no database queries.

An address may belong to a whole office, or to a proxy that the server was not told about. So a key that was accepted recently is
still accepted, whatever others at its address try.
"""

import hashlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from api_schemas.errors import ErrorCode, SecateurError
from service.access.rate_limits import Counter
from store.settings import Settings

BUCKETS = 2**14
"""Number of counters for addresses: an attacker with a whole network of them uses no more memory than this."""
REMEMBERED = 4096
"""Maximum number of remembered keys that were accepted."""
IPV6_PREFIX = 64
"""The prefix that one subscriber gets; all of it counts as one address."""


class FailedAttempts:
    """Safe to share between threads. `most` in a minute; None: without bound."""

    def __init__(self, most: int | None, counter: Counter) -> None:
        self._most = most
        self._counter = counter
        self._let_in: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> "FailedAttempts":
        return cls(settings.refused_keys_per_minute, Counter.of(settings, "secateur-refused-keys"))

    @contextmanager
    def counted(self, address: str | None, token: str) -> Iterator[None]:
        """Wraps the lookup of the key `token`. Raises RATE_LIMITED before it, if `address` sent too many invalid keys.

        `address` is the caller's as the server sees it; None on a Unix socket.
        """
        if self._most is None:
            yield
            return
        bucket, key = _bucket(address), hashlib.sha256(token.encode()).digest()
        wait = None if self._was_let_in(key) else self._counter.full(bucket, self._most)
        if wait is not None:
            detail = "Too many invalid keys from this address in the last minute. Wait, and check the key."
            raise SecateurError(ErrorCode.RATE_LIMITED, detail, retry_after=wait)
        try:
            yield
        except SecateurError as error:
            if error.code is ErrorCode.UNAUTHENTICATED:
                self._note(key, good=False)
                self._counter.hit(bucket, self._most)
            raise
        self._note(key, good=True)

    def _was_let_in(self, key: bytes) -> bool:
        with self._lock:
            return key in self._let_in

    def _note(self, key: bytes, *, good: bool) -> None:
        with self._lock:
            self._let_in.pop(key, None)
            if good:
                self._let_in[key] = None
                if len(self._let_in) > REMEMBERED:
                    self._let_in.popitem(last=False)


def _bucket(address: str | None) -> str:
    network = _network(address or "")
    return str(int.from_bytes(hashlib.sha256(network.encode()).digest()[:4]) % BUCKETS)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), IPV6_PREFIX), strict=False))
