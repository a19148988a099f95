"""Everything that is claimed of a GPU, measured in one run of less than ten minutes, as JSON.

An AST-base with random weights (12 layers, 768 wide, 12 heads; `--shape tiny` for a machine without a GPU) and random inputs:

- `latency`: the dense model, and 50% and 75% of its attention gone, with the default's widths; float32 and bfloat16, batches of
  1 to 64;
- `fisher`: the engine's pass of Fisher information beside a loop over single samples;
- `recovery`: epochs with the engine's ways to feed batches, beside epochs that have their one batch already, and the share of
  an epoch in which the device is busy;
- `offload`: a pass of scoring with all weights on the device, and with those of layers on the host;
- `job`: the engine as a program, from a folder of recordings to a cut checkpoint, with its phases and its peak of memory.

    python -m benchmarks.gpu [--out gpu.json] [--device cuda] [--only latency fisher recovery offload job]

A part that fails is named under `errors`, the others go on, and the exit status is 1. The last line of output is the JSON.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import fisher, job, latency, offload, recovery
from benchmarks.gpu.sizes import SIZES, Size
from benchmarks.race.machine import describe

GOALS = {"fisher": 8.0, "starved": 0.05, "minutes": 10.0}
"""Fisher: how many times as fast as the loop, at least, in some case. Starved: the share of an epoch that feeding may cost."""

Part = Callable[[Size, torch.device], Any]
PARTS: dict[str, Part] = {
    "latency": latency.measure,
    "fisher": fisher.measure,
    "recovery": recovery.measure,
    "offload": offload.measure,
    "job": job.measure,
}


def peak_bytes(device: torch.device) -> int | None:
    """Of the device, by torch's allocator, since the last time it was asked; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def run(size: Size, device: torch.device, parts: list[str]) -> dict[str, Any]:
    """The parts in turn: what each found, its time and, in this process, its peak of device memory."""
    found: dict[str, Any] = {"machine": describe(device), "shape": size.shape}
    seconds: dict[str, float] = {}
    peaks: dict[str, int | None] = {}
    errors: dict[str, str] = {}
    for name in parts:
        print(f"{name} …", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            found[name] = PARTS[name](size, device)
        except Exception as error:  # what the other parts measure on a rented GPU is not lost
            traceback.print_exc()
            errors[name] = f"{type(error).__name__}: {error}"
        seconds[name] = round(time.perf_counter() - begun, 1)
        peaks[name] = peak_bytes(device)
    return {**found, "seconds": seconds, "peak_bytes": peaks, "errors": errors, "goals": goals(found, seconds)}


def goals(found: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """What was aimed at, what was reached, and whether that is enough; of parts that were run."""
    reached = {"minutes": round(sum(seconds.values()) / 60, 2)}
    if "fisher" in found:
        reached["fisher"] = max(case["times_as_fast"] for case in found["fisher"])
    if "recovery" in found:
        reached["starved"] = max(feed["starved"] for feed in found["recovery"]["feeds"].values())
    met = {name: value >= GOALS[name] if name == "fisher" else value <= GOALS[name] for name, value in reached.items()}
    return {name: {"goal": GOALS[name], "reached": value, "met": met[name]} for name, value in reached.items()}


def main(argv: list[str] | None = None) -> int:
    """Measure, write and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SIZES, default="base")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="where the JSON is written as well")
    arguments = parser.parse_args(argv)
    found = run(SIZES[arguments.shape], torch.device(arguments.device), arguments.only)
    text = json.dumps(found)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    print(text)
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
