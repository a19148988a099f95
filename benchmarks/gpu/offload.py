"""A pass of scoring with all weights on the device, and with those of layers on the host (worker/engine/runtime/offload.py)."""

from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.fisher import Case
from benchmarks.gpu.sizes import Size
from worker.engine.runtime.offload import offload_to


def measure(size: Size, device: torch.device) -> list[dict[str, Any]]:
    """One entry a case and place of the weights: median of seconds, and the most bytes on the device; None on a CPU."""
    found = []
    for tokens, batch in size.fisher_cases:
        for on_host in (False, True):
            offload_to(device if on_host else None)
            try:
                case = Case(tokens, batch, device=device, autocast=torch.bfloat16, shape=size.shape)
                run = partial(case.observe, "everything")
                case.seconds(run)  # the first chooses kernels
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                seconds = [case.seconds(run) for _ in range(size.fisher_rounds)]
                peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
            finally:
                offload_to(None)
            found.append(
                {
                    "tokens": tokens,
                    "samples": batch,
                    "weights": "layers on the host" if on_host else "on the device",
                    "seconds": round(median(seconds), 5),
                    "peak_bytes": peak,
                }
            )
    return found
