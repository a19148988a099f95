"""Fisher information of all samples of a batch in one pass, beside a loop over single samples: benchmarks.fisher on a GPU."""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.fisher import Case
from benchmarks.gpu.sizes import Size


def measure(size: Size, device: torch.device) -> list[dict[str, Any]]:
    """One entry a case and precision of the products; medians over rounds, in which pass and loop run in turn."""
    found = []
    for tokens, batch in size.fisher_cases:
        for autocast in (None, torch.bfloat16):
            case = Case(tokens, batch, device=device, autocast=autocast, shape=size.shape)
            passes: dict[str, Callable[[], None]] = {"pass": partial(case.observe, "fisher"), "loop": case.loop}
            taken: dict[str, list[float]] = {name: [] for name in passes}
            for number in range(size.fisher_rounds + 1):
                for name, run in passes.items():
                    seconds = case.seconds(run)
                    if number:  # the first chooses kernels
                        taken[name].append(seconds)
            ratios = [loop / one for one, loop in zip(taken["pass"], taken["loop"], strict=True)]
            found.append(
                {
                    "tokens": tokens,
                    "samples": batch,
                    "products": "float32" if autocast is None else "bfloat16",
                    "pass_seconds": round(median(taken["pass"]), 5),
                    "loop_seconds": round(median(taken["loop"]), 5),
                    "times_as_fast": round(median(ratios), 2),
                }
            )
    return found
