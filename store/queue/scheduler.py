"""Celery's beat with a sign of life. A setting names it (store/queue/broker.py); only beat imports it."""

from typing import Any

from celery import beat

from store.queue import sign_of_life


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Keeps its schedule in memory, as Celery's own class of this name."""

    def tick(self, *args: Any, **options: Any) -> Any:
        """Send what is due; the seconds until something is again."""
        sign_of_life.give()
        return super().tick(*args, **options)
