"""The API's log: its own lines and uvicorn's in one format; service/middleware/request_log.py writes the line of a request."""

import logging

from store import structured_logs
from store.settings import Settings


def configure(settings: Settings) -> None:
    """For the whole process, after uvicorn has set up its own."""
    structured_logs.configure(settings)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
