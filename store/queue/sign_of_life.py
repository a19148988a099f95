"""How a container's health check sees that a process is alive: the loop touches its pid file in every iteration.

docker/scripts/entrypoint.sh creates the file, healthcheck.sh checks its age.
"""

import contextlib
import os

SECONDS = 15.0
"""Between two signs of a worker."""


def give() -> None:
    """Touch the file that PID_FILE names; nothing outside of containers, which set it."""
    path = os.environ.get("PID_FILE")
    if path:
        # Where it cannot be touched the health check says so; the work goes on.
        with contextlib.suppress(OSError):
            os.utime(path)
