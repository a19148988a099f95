"""Engines that use too much memory: how this is detected, and how many samples per pass the next attempt gets."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode
from api_schemas.spec.job import JobRequest
from store import machine
from worker.children.engine_output import Crashed

SCORED_TOGETHER = {"cpu": 8, "cuda": 64}
"""As the engine scores; a test holds the two together."""
LOOK_SECONDS = 0.5
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def samples_at_once(request: JobRequest, phase: Phase | None, device: str, microbatch: int | None) -> int:
    """The most samples of one pass of a phase."""
    asked = request.evaluate.batch_size
    if phase is Phase.FINETUNING and request.finetune is not None:
        asked = request.finetune.batch_size
    elif phase is Phase.SCORING:
        asked = SCORED_TOGETHER.get(device.partition(":")[0], SCORED_TOGETHER["cpu"])
    return asked if microbatch is None else min(asked, microbatch)


def oom_kills(events: Path = _EVENTS) -> int:
    """How many processes of this container the kernel has killed for want of memory; 0 where it does not say."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Usage:
    """Of every process of a session."""

    memory_bytes: int
    """Pages of mapped files left out; of processes that share some, each counts."""
    processes: int
    """And threads, together."""


class SessionWatch:
    """What a session of processes takes, where no limit of the kernel's can be set: one of address space breaks CUDA, and one of
    processes counts whatever else their user runs.

    Two looks are `LOOK_SECONDS` apart. What grows faster than that is the container's own limit to bound.
    """

    def __init__(self, leader: int, memory_bytes: int | None, processes: int) -> None:
        """`leader`: who began the session; a caged process cannot leave it. `memory_bytes`: the setting."""
        self._leader = leader
        self._memory_bytes = machine.engine_memory_bytes(memory_bytes)
        self._processes = processes
        self._next_look = 0.0

    def too_much_memory(self) -> str | None:
        """What to say of it, where it is time for a look and there is. Raises Crashed for too many processes."""
        if time.monotonic() < self._next_look:
            return None
        used = session_usage(self._leader)
        self._next_look = time.monotonic() + LOOK_SECONDS
        if used.processes > self._processes:
            detail = f"The engine had {used.processes} processes and threads; the maximum is {self._processes}."
            raise Crashed(ErrorCode.ENGINE_CRASHED, detail)
        if used.memory_bytes > self._memory_bytes:
            return f"The engine used {used.memory_bytes} bytes of memory; the maximum is {self._memory_bytes}."
        return None


def session_usage(leader: int) -> Usage:
    """Of all processes that are in the session of `leader`."""
    memory_bytes = processes = 0
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                status = Path(f"/proc/{pid}/status").read_text()
                memory_bytes += _own_pages(status)
                processes += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))
        except (OSError, ValueError, StopIteration):
            continue  # It has ended meanwhile.
    return Usage(memory_bytes, processes)


def _own_pages(status: str) -> int:
    kibibytes = (line.split()[1] for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:")))
    return 1024 * sum(map(int, kibibytes))
