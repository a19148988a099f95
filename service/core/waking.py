"""After a commit: wakes the process that has to act on it, if the broker responds."""

import logging

from service.services import Services
from store.queue import broker

log = logging.getLogger(__name__)


def wake(services: Services) -> None:
    """Publish what the commit left in the outbox. Nothing is lost without it: maintenance publishes what stays there.

    Returns at once where another thread is publishing, which then looks once more.
    """
    services.wake_wanted.set()
    while services.wake_wanted.is_set() and services.waking.acquire(blocking=False):
        try:
            services.wake_wanted.clear()
            broker.publish_outbox(services.database, services.settings)
        except Exception as error:
            # The request has succeeded with its commit; nothing that happens here may turn it into a failure.
            log.warning("no worker was notified, maintenance will do it later: %s", error)
        finally:
            services.waking.release()
