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
"""Samples per pass in the engine's scoring; a test compares the two."""
LOOK_SECONDS = 0.5
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def samples_at_once(request: JobRequest, phase: Phase | None, device: str, microbatch: int | None) -> int:
    """The maximum number of samples per pass of a phase."""
    asked = request.evaluate.batch_size
    if phase is Phase.FINETUNING and request.finetune is not None:
        asked = request.finetune.batch_size
    elif phase is Phase.SCORING:
        asked = SCORED_TOGETHER.get(device.partition(":")[0], SCORED_TOGETHER["cpu"])
    return asked if microbatch is None else min(asked, microbatch)


def oom_kills(events: Path = _EVENTS) -> int:
    """How many processes of this container the kernel has killed for lack of memory; 0 if it does not report this."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Usage:
    """Totals over all processes of a session."""

    memory_bytes: int
    """Without pages of mapped files; pages that processes share count for each of them."""
    processes: int
    """Processes and threads together."""


class SessionWatch:
    """Watches the memory and processes of a session where the kernel cannot limit them: an address space limit breaks CUDA, and a
    process limit counts everything else that the user runs.

    Checks are `LOOK_SECONDS` apart. Faster growth is for the container's own limits to stop.
    """

    def __init__(self, leader: int, memory_bytes: int | None, processes: int) -> None:
        """`leader`: the leader of the session, which a sandboxed process cannot leave. `memory_bytes`: the setting."""
        self._leader = leader
        self._memory_bytes = machine.engine_memory_bytes(memory_bytes)
        self._processes = processes
        self._next_look = 0.0

    def too_much_memory(self) -> str | None:
        """The error text, if a check is due and finds too much memory. Raises Crashed for too many processes."""
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
    """Of all processes in the session of `leader`."""
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
