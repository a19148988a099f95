"""Engines that run out of memory: how that shows, and how many samples at a time they are given next."""

from pathlib import Path

from api_schemas.enums import Phase
from api_schemas.spec import JobRequest

SCORED_TOGETHER = {"cpu": 8, "cuda": 64}
"""As the engine scores; a test holds the two together."""
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
