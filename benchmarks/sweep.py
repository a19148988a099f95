"""The paper's twelve methods as a sweep beside twelve jobs: processor seconds of the engine, by phase.

    python -m benchmarks.sweep --model CHECKPOINT --data DATA [--every 8] [--sensitivity] [--page PAGE]

One cut each and no recovery. Every job is the engine's `run` in this process, as in an engine that was forked from a template:
what imports take is in neither. Twelve jobs have a cache of their own each, the jobs of the sweep one, as on one worker. Seconds
are of the processor, this process and its children together: what else the machine does is not in them. Fails where a file of the
identity promise differs between the two.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import parquet

from api_schemas.enums import Phase
from api_schemas.results.events import EngineEvent, Finished, PhaseChanged
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.sweep import METHODS
from worker.engine.run import Inputs, run

GOAL = 1 / 3
"""Of the twelve jobs' time."""
IDENTICAL = ("model.safetensors", "pruning.json", "config.json")


@dataclass
class Spent:
    """Processor seconds by phase, and what the last step's files hold by method."""

    phases: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    files: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.phases.values())


def processor_seconds() -> float:
    """Of this process and the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def some_rows(data: Path, folder: Path, every: int) -> Path:
    """A folder of the same shards with fewer rows."""
    folder.mkdir()
    for shard in data.glob("*.parquet"):
        rows = parquet.read_table(shard)
        parquet.write_table(rows.take(list(range(0, len(rows), every))), folder / shard.name)
    return folder


def spec_of(pruning: dict[str, Any], sparsity: float, *, sensitivity: bool) -> EngineSpec:
    """One cut by one method, no recovery."""
    asked = {**pruning, "target": {"attention_sparsity": sparsity}, "schedule": {"steps": 1}}
    evaluate = {} if sensitivity else {"sensitivity_samples": None}
    return EngineSpec.model_validate({"pruning": asked, "finetune": None, "evaluate": evaluate})


def measure(arguments: argparse.Namespace, work: Path, *, shared: bool) -> Spent:
    """All methods, one after the other."""
    spent = Spent()
    for name, pruning in METHODS["paper"]:
        out, cache = work / "out", work / "cache"
        for folder in (out, *(() if shared else (cache,))):
            shutil.rmtree(folder, ignore_errors=True)
        phase, since = "starting", processor_seconds()

        def hear(event: EngineEvent) -> None:
            nonlocal phase, since
            if isinstance(event, PhaseChanged | Finished):
                now = processor_seconds()
                spent.phases[phase] += now - since
                phase, since = event.phase.value if isinstance(event, PhaseChanged) else "", now

        inputs = Inputs(arguments.model, arguments.data, out, cache, device="cpu", threads=arguments.threads)
        run(inputs, spec_of(pruning, arguments.sparsity, sensitivity=arguments.sensitivity), hear)
        spent.files[name] = [(out / "step-1" / file).read_bytes() for file in IDENTICAL]
        print(f"{'sweep' if shared else 'jobs'}: {name}, {spent.total:.0f} s so far", file=sys.stderr, flush=True)
    return spent


def page(arguments: argparse.Namespace, jobs: Spent, sweep: Spent) -> str:
    """What came out, in Markdown."""
    chosen = f"--sparsity {arguments.sparsity:g} --every {arguments.every}"
    command = f"python -m benchmarks.sweep --model CHECKPOINT --data DATA {chosen}"
    rows = [
        f"| {phase} | {jobs.phases[phase]:.1f} | {sweep.phases[phase]:.1f} |"
        for phase in ("starting", *(each.value for each in Phase if each is not Phase.STARTING))
        if jobs.phases[phase] or sweep.phases[phase]
    ]
    share = sweep.total / jobs.total
    return "\n".join(
        (
            "# Twelve methods as a sweep and as twelve jobs\n",
            f"`{command}{' --sensitivity' if arguments.sensitivity else ''}`, {arguments.about}, {arguments.threads} thread.",
            "One cut, no recovery, one worker. Times are the engine's processor seconds; neither column includes imports.\n",
            "| phase | twelve jobs | as a sweep |",
            "|---|---:|---:|",
            *rows,
            f"| **all** | **{jobs.total:.1f}** | **{sweep.total:.1f}** |\n",
            f"The sweep takes {share:.0%} of the twelve jobs' time; the goal was {GOAL:.0%}.",
            "Weights, configs and records of all twelve are byte for byte the same either way.\n",
        )
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=1, help="take every so manieth row of each shard")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--sensitivity", action="store_true", help="with the sensitivity analysis, which is shared by none"
    )
    parser.add_argument("--about", default="", help="what model and data are, for the page")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        arguments.data = some_rows(arguments.data, Path(folder) / "data", arguments.every)
        jobs = measure(arguments, Path(folder), shared=False)
        shutil.rmtree(Path(folder) / "cache")
        sweep = measure(arguments, Path(folder), shared=True)
    different = [name for name, files in jobs.files.items() if files != sweep.files[name]]
    if different:
        raise SystemExit(f"not the same with and without sharing: {', '.join(different)}")
    text = page(arguments, jobs, sweep)
    print(text)
    print(f"{time.monotonic() - begun:.0f} s by the clock", file=sys.stderr)
    if arguments.page is not None:
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
