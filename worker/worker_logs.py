"""The log of the Celery processes, in the format that all processes share instead of Celery's own."""

from typing import Any

from celery.signals import setup_logging

from store import structured_logs
from store.settings import get_settings


def configure(**_: Any) -> None:
    """Celery leaves logging alone once somebody listens to its signal."""
    structured_logs.configure(get_settings())


setup_logging.connect(configure)
