"""How often a tenant may ask. Counted by the library `limits`, in this process or in the broker's Redis."""

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

_NAMESPACE = "secateur-requests"
# A broker that does not answer may cost a request this long, and no more.
_TIMEOUTS = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}


@dataclass(frozen=True)
class Rates:
    """Safe to share between threads. Where the counts cannot be reached, requests are let through: better than none at all."""

    most: int | None
    limiter: SlidingWindowCounterRateLimiter

    @classmethod
    def of(cls, settings: Settings) -> "Rates":
        return cls(settings.requests_per_minute, SlidingWindowCounterRateLimiter(_storage(settings)))

    @property
    def remote(self) -> bool:
        """Whether counting asks another machine."""
        return self.most is not None and not isinstance(self.limiter.storage, MemoryStorage)

    def count(self, tenant: str) -> None:
        """One more request. Raises RATE_LIMITED."""
        if self.most is None:
            return
        item = RateLimitItemPerMinute(self.most)
        try:
            if self.limiter.hit(item, _NAMESPACE, tenant):
                return
            reset = self.limiter.get_window_stats(item, _NAMESPACE, tenant).reset_time
        except StorageError as error:
            log.warning("requests are not counted, the broker does not answer: %s", error)
            return
        detail = f"{self.most} requests a minute are allowed. Wait, and poll no faster than `Retry-After` says."
        raise SecateurError(ErrorCode.RATE_LIMITED, detail, retry_after=min(60, max(1, math.ceil(reset - time.time()))))

    def used(self, tenant: str) -> int | None:
        """Requests of the last minute; None where nobody counts."""
        if self.most is None:
            return None
        try:
            stats = self.limiter.get_window_stats(RateLimitItemPerMinute(self.most), _NAMESPACE, tenant)
        except StorageError:
            return None
        return self.most - stats.remaining


def _storage(settings: Settings) -> Storage:
    if settings.rate_storage == "memory":
        made = storage_from_string("memory://", wrap_exceptions=True)
    else:
        # Celery and `limits` name a Unix socket differently.
        address = re.sub(r"^redis\+socket://", "redis+unix://", settings.broker_url)
        made = storage_from_string(address, wrap_exceptions=True, **_TIMEOUTS)
    assert isinstance(made, Storage)
    return made
