"""Sends deliveries that are due: signed according to Standard Webhooks, several at once, each with a timeout."""

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook as Signer

from api_schemas.errors import SecateurError
from store.database.connection import UNREACHABLE, Database
from store.outbound.client import OutboundClient, Unreachable
from store.settings import Settings
from store.webhooks import deliveries
from store.webhooks.deliveries import Claimed, Outcome

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Calls of one process. More than a tenant may have under way (store/webhooks/deliveries.py): a slow one leaves room."""


class Sender:
    """The deliveries of one process, sent by threads of its own: nothing else waits for a receiver."""

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
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhooks")
        self._changed = threading.Condition()
        self._busy = 0
        self._tries = 0
        self._closing = False

    def send_due(self) -> None:
        """Let threads that have nothing to do send what is due. Returns at once."""
        with self._changed:
            if self._closing or self._busy == AT_ONCE:
                return
            self._busy += 1
        self._threads.submit(self._send_some)

    def wait(self) -> int:
        """Until no thread sends any more; returns how many tries were made since this was last called."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            tries, self._tries = self._tries, 0
        return tries

    def close(self) -> None:
        """Begin nothing more. What is under way is sent to its end, which Python waits for when the process ends."""
        with self._changed:
            self._closing = True

    def _send_some(self) -> None:
        """One after the other while there is any that may be sent; each that is there calls for another thread to look."""
        try:
            while not self._closing and (claimed := self._claim()) is not None:
                self.send_due()
                outcome = self._send(claimed)
                with self._database.write() as session:
                    deliveries.record(session, claimed, outcome, self._settings, self._jitter())
                with self._changed:
                    self._tries += 1
        except UNREACHABLE as error:
            log.warning("webhooks are delayed: the database does not answer: %s", error)
        except Exception:
            log.exception("sending webhooks failed; the next tick tries again")
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _claim(self) -> Claimed | None:
        with self._database.write() as session:
            return deliveries.claim(session, self._settings.webhook_timeout_seconds)

    def _send(self, claimed: Claimed) -> Outcome:
        """One call. The response's body is not read, so users cannot learn through us what another server returns."""
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
                seconds=claimed.seconds,
                headers=headers,
                content=claimed.body.encode(),
            ) as response:
                status = response.status_code
                if not 200 <= status < 300:
                    error = f"the receiver answered {status}; only 200 to 299 counts as delivered"
        except SecateurError as refusal:
            error = refusal.detail
        except Unreachable as failure:
            error = str(failure)
        took = time.monotonic() - begun
        # An address that takes no connection is given up before the whole time is over.
        return Outcome(status, error, round(took, 3), timed_out=status is None and took > claimed.seconds / 2)
