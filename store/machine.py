"""What this machine has, or the container that we are in."""

import os
from pathlib import Path

import psutil

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, in the two versions of control groups."""


def memory_bytes() -> int:
    """All of it, free or not."""
    total: int = psutil.virtual_memory().total
    for file in _LIMITS:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):
            continue  # Another kind of control group, or none, or `max`.
    return total


def cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0))
