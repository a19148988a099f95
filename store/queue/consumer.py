"""Celery's consumer without what workers tell each other. A setting names it (store/queue/broker.py); workers alone import it."""

from collections.abc import Mapping
from typing import Any

from celery.worker import consumer

QUIET = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """As with `--without-gossip --without-mingle --without-heartbeat`."""

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, worker_options={**(worker_options or {}), **QUIET}, **options)
