"""The resources of this machine or container, and the part of them that an engine gets."""

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from api_schemas.cpu_cores import affine_cores, cpu_quota, omp_threads

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, in the two versions of control groups."""
_SOCKETS = Path("/proc/net/unix")
_RUNNING = "secateur-engine-"


def memory_bytes() -> int:
    """All of it, free or not."""
    total: int = psutil.virtual_memory().total
    for file in _LIMITS:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):
            continue  # Another kind of control group, or none, or `max`.
    return total


def engine_memory_bytes(setting: int | None) -> int:
    """The most that an engine may take of it: SECATEUR_ENGINE_MEMORY_BYTES, else nine tenths."""
    return memory_bytes() * 9 // 10 if setting is None else setting


@dataclass(frozen=True)
class Disk:
    """In bytes; `free` for a user who is not root."""

    total: int
    free: int


def disk_of(folder: Path) -> Disk | None:
    """That a folder is on, or will be once it is made; None where it cannot be asked."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    try:
        found = psutil.disk_usage(str(there))
    except OSError:
        return None
    return Disk(found.total, found.free)


def yield_cpu(process: int) -> None:
    """Let a child that leads its own session, and what it starts, run only when no other process needs the CPU.

    Linux compares nice values within a session, and sessions by a value of their own (sched(7), autogroup): both are set.
    """
    with suppress(OSError):  # It may have ended.
        os.setpriority(os.PRIO_PROCESS, process, 19)
        Path(f"/proc/{process}/autogroup").write_text("19")


@dataclass(frozen=True)
class EngineThreads:
    """CPU threads of an engine, and why so many."""

    count: int
    why: str


def engine_threads(
    setting: int | None,
    engines: int,
    environment: Mapping[str, str] = os.environ,
    quota: float | None = None,
    earlier: int | None = None,
) -> EngineThreads:
    """What an engine gets that runs beside others, `engines` with it.

    `setting` (SECATEUR_ENGINE_THREADS), else OMP_NUM_THREADS, else the cores, never more than the control group's `quota`,
    divided by the engines: threads beyond the cores make each of them several times slower. An engine that goes on where an
    `earlier` one stopped gets as many as that, where there are so many cores: with another number sums are in another order.
    """
    if setting is not None:
        return EngineThreads(setting, "SECATEUR_ENGINE_THREADS says so")
    if (asked := omp_threads(environment)) is not None:
        return EngineThreads(asked, "OMP_NUM_THREADS says so")
    here = affine_cores()
    why = "the cores there are"
    cores = float(here)
    if quota is not None and quota < here:
        cores, why = quota, f"the control group's quota is {quota:g} cores"
    if earlier is not None and earlier <= cores:
        return EngineThreads(earlier, "the engine that it goes on from had as many")
    if engines > 1:
        why += f", shared by {engines} engines"
    return EngineThreads(max(1, int(cores / engines)), why)


@contextmanager
def running_engine(setting: int | None, earlier: int | None = None) -> Iterator[EngineThreads]:
    """For as long as an engine runs: it counts among those that share the machine. What it gets, decided at its start.

    What counts is a bound socket of this process, in Linux' abstract namespace: it is seen by every process of the machine,
    whoever's and with whatever scratch folder, leaves no file, and is gone with the process, however that ends. A container
    sees those of its own network alone; beside others it has its quota.
    """
    with socket.socket(socket.AF_UNIX) as held:
        with suppress(OSError):  # Not Linux: nobody is counted.
            held.bind(f"\0{_RUNNING}{uuid.uuid4().hex}")
        yield engine_threads(setting, max(1, engines_running()), quota=cpu_quota(), earlier=earlier)


def threads_of_next(setting: int | None) -> EngineThreads:
    """What an engine would get that started now."""
    return engine_threads(setting, engines_running() + 1, quota=cpu_quota())


def engines_running(sockets: Path = _SOCKETS) -> int:
    """How many engines run on this machine now; 0 where that cannot be seen."""
    try:
        lines = sockets.read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return len({name for line in lines if (name := line.rpartition(" ")[2]).startswith(f"@{_RUNNING}")})
