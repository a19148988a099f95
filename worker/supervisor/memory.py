"""Engines that run out of memory: how that shows, and how many samples at a time they are given next."""

import os
import time
from pathlib import Path

import psutil

from api_schemas.enums import Phase
from api_schemas.spec.job import JobRequest
from store.machine import memory_bytes

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


class MemoryWatch:
    """How much a session of processes holds, where no limit of the kernel's can be set: one of address space breaks CUDA.

    Two looks are `LOOK_SECONDS` apart. What grows faster than that is the container's own limit to bound.
    """

    def __init__(self, leader: int, most: int | None) -> None:
        """`leader`: who began the session; a caged process cannot leave it. `most`: bytes; by default nine tenths of all."""
        self._leader = leader
        self.most = memory_bytes() * 9 // 10 if most is None else most
        self._next_look = 0.0

    def excess(self) -> int | None:
        """The bytes it holds where they are more than `most`, and it is time for a look; else None."""
        if time.monotonic() < self._next_look:
            return None
        held = session_memory(self._leader)
        self._next_look = time.monotonic() + LOOK_SECONDS
        return held if held > self.most else None


def session_memory(leader: int) -> int:
    """Bytes of memory, pages of mapped files left out, of every process of a session; of those that share some, each counts."""
    total = 0
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                total += _own_pages(Path(f"/proc/{pid}/status").read_text())
        except (OSError, ValueError):
            continue  # It has ended meanwhile.
    return total


def _own_pages(status: str) -> int:
    kibibytes = (line.split()[1] for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:")))
    return 1024 * sum(map(int, kibibytes))
