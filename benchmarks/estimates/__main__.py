"""First estimates of a job's time, from a measurement of the device alone, beside what the jobs really took.

    python -m benchmarks.estimates --jobs FOLDER [--model CHECKPOINT --data DATA] [--whisper CHECKPOINT] \\
        [--write docs/results/estimates.md]

Jobs run on one thread of a CPU, by the engine alone. What a job took is kept in the folder: one that is there is not run again,
and its estimate is made anew. Without `--model` and `--data` the jobs of that checkpoint are left out, and so are Whisper's.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from api_schemas.enums import DeviceKind
from benchmarks.command import shown
from benchmarks.estimates.cases import Case, cases
from benchmarks.estimates.page import page
from benchmarks.estimates.runs import OUTSIDE, run
from checkpoints.describe import describe_folder
from checkpoints.planning.estimates import estimated_steps
from checkpoints.planning.settled import settled
from checkpoints.sizes.device_speed import DeviceSpeed
from checkpoints.sizes.first_time import JobFacts, first_seconds
from demo.inputs import model_and_data
from worker.engine.runtime.device_speed import measure

SPEED = "speed.json"


def measured(jobs: Path) -> DeviceSpeed:
    """The device's, measured once for all jobs of the folder."""
    kept = jobs / SPEED
    if not kept.exists():
        kept.write_text(measure(torch.device("cpu")).model_dump_json())
    return DeviceSpeed.model_validate_json(kept.read_text())


def kept_of(case: Case, jobs: Path) -> Path:
    """Where it is kept what the job took."""
    name = "-".join("".join(letter if letter.isalnum() else " " for letter in case.name).split())
    return jobs / f"{name}.json"


def job(case: Case, jobs: Path) -> dict[str, Any]:
    """What it took, and its model: run now, or as it is kept."""
    kept = kept_of(case, jobs)
    folder = kept.with_suffix("")
    shutil.rmtree(folder / "job", ignore_errors=True)
    model, data = case.make(folder)
    if not kept.exists():
        done = run(folder / "job", model, data, case.engine_spec)
        found = {"total": asdict(done.total), "phases": {name: asdict(each) for name, each in done.phases.items()}}
        kept.write_text(json.dumps({**found, "samples": done.samples, "load": done.load}, indent=1))
        shutil.rmtree(folder / "job", ignore_errors=True)
    return {**json.loads(kept.read_text()), "model": model}


def estimated(case: Case, model: Path, samples: dict[str, int], speed: DeviceSpeed) -> dict[str, tuple[float, float]]:
    """By phase, from and to."""
    described = describe_folder(model)
    spec = settled(case.engine_spec, described.shape, described.widths, described.architecture.head)
    flops = [step.flops for step in estimated_steps(described.shape, spec.pruning, 0)]
    facts = JobFacts(
        shape=described.shape,
        head=described.architecture.head,
        modality=described.family.modality,
        kind=DeviceKind.CPU,
        samples=samples,
        flops=flops,
        length=case.length,
    )
    return {phase.value: found for phase, found in first_seconds(spec, facts, speed).items()}


def one(case: Case, jobs: Path, speed: DeviceSpeed) -> dict[str, Any]:
    """A case's row: seconds that were foretold, and that it took."""
    took = job(case, jobs)
    said = estimated(case, took["model"], took["samples"], speed)
    load = took["load"]
    phases = {
        name: {"said": said.get(name), "took": round(spent["processor"] / load, 1)}
        for name, spent in took["phases"].items()
    }
    # The engine alone has no phase `starting`: what lies outside the others is that.
    phases["starting"] = {"said": said["starting"], "took": phases.pop(OUTSIDE)["took"]}
    low, high = (sum(each[end] for each in said.values()) for end in (0, 1))
    truth = took["total"]["processor"] / load
    return {
        "name": case.name,
        "fitted": case.fitted,
        "low": round(low, 1),
        "high": round(high, 1),
        "took": round(truth, 1),
        "processor": round(took["total"]["processor"], 1),
        "wall": round(took["total"]["wall"], 1),
        "load": round(load, 2),
        "inside": low <= truth <= high,
        "phases": phases,
    }


def main() -> None:
    """Estimate and run all, print a line for each, and write the page where asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimates", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", type=Path, required=True, metavar="FOLDER", help="where jobs and what they took are kept"
    )
    parser.add_argument("--model", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--data", type=Path, metavar="DATA")
    parser.add_argument("--whisper", type=Path, metavar="CHECKPOINT")
    parser.add_argument(
        "--kept", action="store_true", help="run nothing: estimate what is kept, and leave out the rest"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.jobs.mkdir(parents=True, exist_ok=True)
    model, data, _ = model_and_data(Console(stderr=True))
    given = None if arguments.model is None or arguments.data is None else (arguments.model, arguments.data)
    speed = measured(arguments.jobs)
    rows, everything = [], cases((model, data), given, arguments.whisper)
    for case in everything:
        if arguments.kept and not kept_of(case, arguments.jobs).exists():
            continue
        rows.append(one(case, arguments.jobs, speed))
        print(json.dumps(rows[-1]), flush=True)
    found = {
        "command": shown(parser, sys.argv[1:]),
        "speed": speed.model_dump(mode="json"),
        "cores": os.cpu_count(),
        "rows": rows,
        "not_run": [case.name for case in everything if case.name not in {row["name"] for row in rows}],
    }
    if arguments.write is not None:
        arguments.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        arguments.write.write_text(page(found))


if __name__ == "__main__":
    main()
