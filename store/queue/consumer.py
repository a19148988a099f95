"""Celery's consumer without the messages between workers. A setting names it (store/queue/broker.py); only workers import it."""

from collections.abc import Mapping
from typing import Any

from celery.bootsteps import StartStopStep
from celery.worker import consumer

from store.queue import sign_of_life

QUIET = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class SignOfLife(StartStopStep):  # type: ignore[misc]
    """A sign of life from the consumer's own loop, which a job, in a thread of its own, does not hold up."""

    requires = (consumer.Tasks,)

    def start(self, parent: Any) -> None:
        """Again after every connection to the broker that was lost: until then there is none."""
        self._timer = parent.timer.call_repeatedly(sign_of_life.SECONDS, sign_of_life.give)

    def stop(self, parent: Any) -> None:  # noqa: ARG002  the interface of bootsteps
        """The connection is gone, or the worker ends."""
        self._timer.cancel()


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """As with `--without-gossip --without-mingle --without-heartbeat`, and with a sign of life."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps and one more."""

        default_steps = (*consumer.Consumer.Blueprint.default_steps, SignOfLife)

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, worker_options={**(worker_options or {}), **QUIET}, **options)
