"""What a job costs beside the engine's own work: one of about a minute, over HTTP on a stack started as users do.

    python -m benchmarks.overhead [--write docs/results/overhead.md --label before]

By default on the demo's keywords model and data. The same job is then run by the engine alone; both on one thread. The last line
of output is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.command import shown
from benchmarks.kept_runs import keep
from benchmarks.overhead.division import divide
from benchmarks.overhead.page import page, table
from benchmarks.overhead.runs import alone, first_events, in_service
from demo.inputs import model_and_data
from secateur import Secateur
from tests.support.servers.up import stack_up

GOALS = {"overhead": 0.05, "covered": 0.97, "first_event": 1.0}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON."""
    model, data = arguments.model, arguments.data
    if model is None or data is None:
        model, data, _ = model_and_data(Console(stderr=True))
    fields: dict[str, Any] = {
        "preset": "paper",
        "pruning": {"target": {"attention_sparsity": arguments.sparsity}, "schedule": {"steps": arguments.steps}},
        "finetune": {"epochs": arguments.epochs},
    }
    load = os.getloadavg()[0]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="overhead-") as place:
        folder = Path(place)
        with stack_up(folder, SECATEUR_ENGINE_THREADS="1", SECATEUR_DEVICE="cpu") as url, Secateur(url) as client:
            uploaded, dataset = client.upload_model(model).id, client.upload_dataset(data).id
            first = first_events(client, uploaded, dataset, fields, arguments.submits)
            run, job = in_service(client, folder, uploaded, dataset, fields)
            spec = job.view.request.engine_spec({})
        engine = alone(folder / "alone", model, data, spec)
    service = divide(run)
    recorded = median(each["recorded"] for each in first)
    return {
        "service": service.as_json(),
        "engine": divide(engine).as_json(),
        "first_event": {"recorded": round(recorded, 3), "seen": round(median(each["seen"] for each in first), 3)},
        "submits": arguments.submits,
        "job": {"sparsity": arguments.sparsity, "steps": arguments.steps, "epochs": arguments.epochs},
        "goals": {
            "overhead": service.overhead < GOALS["overhead"],
            "covered": service.covered >= GOALS["covered"],
            "first_event": recorded < GOALS["first_event"],
        },
        "load_before": round(load, 2),
        "seconds": round(time.monotonic() - began),
    }


def main() -> int:
    """Prints a table and JSON; returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; with --data")
    parser.add_argument("--data", type=Path, help="a dataset folder")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="of recovery, a step")
    parser.add_argument("--submits", type=int, default=7, help="to an idle worker")
    parser.add_argument("--label", default="now", help="of this run among those on the page")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="the page, which keeps runs of other labels; their JSON lies beside it",
    )
    arguments = parser.parse_args()
    found = {**measure(arguments), "command": shown(parser, sys.argv[1:])}
    print(table(found))
    if arguments.write:
        keep(arguments.write, arguments.label, found, page)
    print(json.dumps(found))
    return 0 if all(found["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
