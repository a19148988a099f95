"""How often something may happen per minute. Counted by the library `limits`, in this process or in the broker's Redis."""

import logging
import math
import re
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from api_schemas.errors import ErrorCode, SecateurError
from store.settings import Settings

log = logging.getLogger(__name__)

# A broker that does not answer may cost a request this long, and no more.
_TIMEOUTS = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}


@dataclass(frozen=True)
class Counter:
    """Counts over a sliding minute, by name. Safe to share between threads.

    Where the counts cannot be reached, everything is let through: better than nothing at all.
    """

    namespace: str
    limiter: SlidingWindowCounterRateLimiter

    @classmethod
    def of(cls, settings: Settings, namespace: str) -> "Counter":
        return cls(namespace, SlidingWindowCounterRateLimiter(_storage(settings)))

    def hit(self, name: str, most: int) -> int | None:
        """One more; returns the seconds to wait where that would be more than `most`, and does not count it."""
        item = RateLimitItemPerMinute(most)
        try:
            return None if self.limiter.hit(item, self.namespace, name) else self._seconds(name, item)
        except StorageError as error:
            log.warning("%s are not counted, because the broker does not respond: %s", self.namespace, error)
            return None

    def full(self, name: str, most: int) -> int | None:
        """The seconds to wait where one more would be more than `most`; nothing is counted."""
        item = RateLimitItemPerMinute(most)
        try:
            return None if self.limiter.test(item, self.namespace, name) else self._seconds(name, item)
        except StorageError as error:
            log.warning("%s are not counted, because the broker does not respond: %s", self.namespace, error)
            return None

    def used(self, name: str, most: int) -> int | None:
        """How many in the last minute; None if that is unknown."""
        try:
            return most - self.limiter.get_window_stats(RateLimitItemPerMinute(most), self.namespace, name).remaining
        except StorageError:
            return None

    def _seconds(self, name: str, item: RateLimitItemPerMinute) -> int:
        reset = self.limiter.get_window_stats(item, self.namespace, name).reset_time
        return min(60, max(1, math.ceil(reset - time.time())))


@dataclass(frozen=True)
class RateLimits:
    """How often a tenant may ask; None: without bound."""

    most: int | None
    counter: Counter

    @classmethod
    def of(cls, settings: Settings) -> "RateLimits":
        return cls(settings.requests_per_minute, Counter.of(settings, "secateur-requests"))

    @property
    def remote(self) -> bool:
        """Whether counting asks another machine."""
        return self.most is not None and not isinstance(self.counter.limiter.storage, MemoryStorage)

    def count(self, tenant: str) -> None:
        """One more request. Raises RATE_LIMITED."""
        if self.most is None:
            return
        wait = self.counter.hit(tenant, self.most)
        if wait is not None:
            detail = (
                f"The limit is {self.most} requests per minute. Wait as long as `Retry-After` says, and poll no more "
                "often than that."
            )
            raise SecateurError(ErrorCode.RATE_LIMITED, detail, retry_after=wait)

    def used(self, tenant: str) -> int | None:
        """Requests of the last minute; None if they are not counted."""
        return None if self.most is None else self.counter.used(tenant, self.most)


def _storage(settings: Settings) -> Storage:
    if settings.rate_storage == "memory":
        made = storage_from_string("memory://", wrap_exceptions=True)
    else:
        # Celery and `limits` name a Unix socket differently.
        address = re.sub(r"^redis\+socket://", "redis+unix://", settings.broker_url)
        made = storage_from_string(address, wrap_exceptions=True, **_TIMEOUTS)
    assert isinstance(made, Storage)
    return made
