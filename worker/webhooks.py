"""Sends deliveries that are due: signed by the Standard Webhooks rules, several at once, each for a bounded time."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook as Signer

from api_schemas.errors import SecateurError
from store.database.connection import Database
from store.outbound.client import OutboundClient, Unreachable
from store.settings import Settings
from store.webhooks import deliveries
from store.webhooks.deliveries import Claimed, Outcome

AT_ONCE = 8
MOST = 200
"""Deliveries of one tick; more wait for the next."""
LEASE_MARGIN = 30.0
"""Seconds that a try may take beyond its call."""


class Sender:
    """The deliveries of one process. A tick that comes while one runs does nothing."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        outbound: OutboundClient,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._settings = settings
        self._outbound = outbound
        self._jitter = jitter
        self._running = threading.Lock()

    def send_due(self) -> int:
        """Send until nothing is due; returns how many tries were made."""
        if not self._running.acquire(blocking=False):
            return 0
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return sum(pool.map(lambda _: self._send_some(), range(AT_ONCE)))
        finally:
            self._running.release()

    def _send_some(self) -> int:
        for sent in range(MOST // AT_ONCE):
            with self._database.write() as session:
                claimed = deliveries.claim(session, self._settings.webhook_timeout_seconds + LEASE_MARGIN)
            if claimed is None:
                return sent
            outcome = self._send(claimed)
            with self._database.write() as session:
                deliveries.record(session, claimed, outcome, self._settings, self._jitter())
        return MOST // AT_ONCE

    def _send(self, claimed: Claimed) -> Outcome:
        """One call. The answer's body is not read: nobody learns from us what a stranger's server says."""
        moment = datetime.now(UTC)
        signatures = [Signer(secret).sign(claimed.message_id, moment, claimed.body) for secret in claimed.secrets]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": claimed.message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        begun = time.monotonic()
        status = error = None
        try:
            with self._outbound.stream(
                "POST",
                claimed.url,
                seconds=self._settings.webhook_timeout_seconds,
                headers=headers,
                content=claimed.body.encode(),
            ) as response:
                status = response.status_code
                if not 200 <= status < 300:
                    error = f"it answered {status}; an answer from 200 to 299 says that it was taken"
        except SecateurError as refusal:
            error = refusal.detail
        except Unreachable as failure:
            error = str(failure)
        return Outcome(status, error, round(time.monotonic() - begun, 3))
