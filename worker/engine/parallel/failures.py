"""Tells the first of several processes, which alone reports, why another failed: a file in the job's folder, until it is read."""

import time
from pathlib import Path

from api_schemas.results.events import Failed

SECONDS = 10.0
"""How long the first looks for such a file once another is gone."""
_POLL_SECONDS = 0.05
_NAME = ".failed-{rank}.json"


class PeerLostError(Exception):
    """Another process of the job has ended. Why, it says itself, if it could."""


def tell(out: Path, rank: int, failure: Failed) -> None:
    """Leave it for the first process, as process number `rank`."""
    path = out / _NAME.format(rank=rank)
    partial = path.with_suffix(".partial")
    partial.write_text(failure.model_dump_json())
    partial.replace(path)


def told(out: Path) -> Failed | None:
    """Why another process is gone; None where it did not say."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for path in sorted(out.glob(_NAME.format(rank="*"))):
            failure = Failed.model_validate_json(path.read_bytes())
            path.unlink()
            return failure
        time.sleep(_POLL_SECONDS)
    return None
