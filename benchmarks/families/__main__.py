"""Every class of every family: whether a cut is right, on tiny random models, and what it buys in time, on small ones.

    python -m benchmarks.families [--out docs/results/families.md] [--only Whisper] [--threads 1]

Errors are shares of max(1, largest absolute answer), float32; the project's bound is 1e-5. Prints two tables and, on the last
line, everything as JSON; with `--out` writes them to that page and to a JSON file beside it.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.families import small_models, tiny_models
from benchmarks.families.errors import errors
from benchmarks.families.page import page, right_table, time_table
from benchmarks.families.speed import speeds
from benchmarks.race.machine import describe

BOUND = 1e-5


def measure(only: str) -> dict[str, Any]:
    """Everything, of the classes whose names hold `only`."""
    start = time.monotonic()
    chosen = [example for example in tiny_models.MODELS if only in example.id]
    with tempfile.TemporaryDirectory(prefix="families-") as scratch:
        checked = errors(chosen, Path(scratch))
    right = [
        {"family": example.model_spec.family.name, "model": example.id, **asdict(found)}
        for example, found in zip(chosen, checked, strict=True)
    ]
    print("\n".join(right_table(right)), "", sep="\n", flush=True)
    timed: list[dict[str, Any]] = []
    for example in (example for example in small_models.MODELS if only in example.id):
        begun = time.monotonic()
        milliseconds, cuts = speeds(example)
        of_cuts = {
            each.name: {"promise": each.promise, "measured": each.measured, "ratio": each.ratio} for each in cuts
        }
        row = {"family": example.model_spec.family.name, "model": example.id, "ms": milliseconds, "cuts": of_cuts}
        timed.append({**row, "seconds": time.monotonic() - begun})
    print("\n".join(time_table(timed)), flush=True)
    ratios = {name: [row["cuts"][name]["ratio"] for row in timed] for name in timed[0]["cuts"]}
    worst = max(max(row["masked"], row["round_trip"]) for row in right)
    return {
        "machine": describe(torch.device("cpu")), "bound": BOUND, "worst_error": worst, "right": right, "time": timed,
        "median_ratio": {name: float(np.median(found)) for name, found in ratios.items()},
        "least_ratio": {name: min(found) for name, found in ratios.items()},
        "seconds": round(time.monotonic() - start), "all_right": worst <= BOUND,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write; exit status 1 where an error is beyond the bound."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="where the page is written")
    parser.add_argument("--only", default="", help="part of a class's name")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.only)
    if arguments.out is not None:
        arguments.out.write_text(page(found))
        arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    raise SystemExit(0 if found["all_right"] else 1)


if __name__ == "__main__":
    main()
