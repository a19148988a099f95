"""How many of this machine's cores a process may use: what it is pinned to, and the CPU quota of its control group.

For whoever starts an engine, by the server or by `secateur prune`. Of a container we see the container's own quota.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_VERSION_1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
"""What the CPU controller of version 1 is mounted as."""


def affine_cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float | None:
    """Cores' worth of time, 1.5 for one, that the control groups of this process allow. None: without bound, or not known.

    Of a group and those above it the least counts. Version 2 has `cpu.max` (quota and period in microseconds, or `max`),
    version 1 `cpu.cfs_quota_us` and `cpu.cfs_period_us` (-1: without bound).
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        lines = []
    found: list[float] = []
    for line in lines or ["0::/"]:
        _, _, group = line.partition(":")
        controllers, _, path = group.partition(":")
        if not controllers:
            for root in (mount, mount / "unified"):
                found += _quotas(root, path)
        elif "cpu" in controllers.split(","):
            for name in _VERSION_1:
                found += _quotas(mount / name, path)
    return min(found, default=None)


def usable_cores(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float:
    """The cores this process may run on, or its quota where that is less."""
    quota = cpu_quota(groups, mount)
    return affine_cores() if quota is None else min(affine_cores(), quota)


def omp_threads(environment: Mapping[str, str]) -> int | None:
    """What OMP_NUM_THREADS asks for, the first of a list; None where it is not set or is no number of threads."""
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


def threads_alone(environment: Mapping[str, str]) -> int:
    """CPU threads of an engine that shares with no other: OMP_NUM_THREADS, else the whole cores that may be used."""
    return omp_threads(environment) or max(1, int(usable_cores()))


def _quotas(root: Path, path: str) -> Iterator[float]:
    """Of the group and all above it. A container may be told its path on the host, which it cannot see: its own is the root."""
    group = root / path.strip("/")
    inside = ".." not in group.parts
    for folder in (group, *group.parents) if inside else (root,):
        if not folder.is_relative_to(root):
            return
        if (quota := _quota(folder)) is not None:
            yield quota


def _quota(folder: Path) -> float | None:
    try:
        if (version_2 := folder / "cpu.max").is_file():
            quota, period = version_2.read_text().split()[:2]
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # No such group or controller here, or `max`.
    return cores if cores > 0 else None
