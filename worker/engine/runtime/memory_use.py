"""How much memory this process has needed so far."""

from pathlib import Path

import torch

from api_schemas.results.metrics import Memory

_STATUS = Path("/proc/self/status")


def most_memory(device: torch.device) -> Memory:
    """The peaks since the process began, in bytes."""
    allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Memory(host=most_resident(_STATUS), device=allocated)


def most_resident(status: Path) -> int | None:
    """VmHWM of a `status` of /proc: of this program alone, where getrusage counts what started it too. None elsewhere."""
    try:
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
