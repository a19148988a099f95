"""The service with 1, 2 and 4 workers on hosts of their own, jobs that sleep instead of computing, and links that are cut.

    python -m benchmarks.scale [--jobs 12] [--cut 45] [--write docs/results/scale.md]

Hosts are network namespaces (`ip netns`, as root): API, maintenance, PostgreSQL, Valkey and a bucket on one side, a worker in
each of the others. Where there can be none all run on loopback, and links are not cut. A job is three steps of an engine that
sleeps a second in each. Then a claim with 10,000 jobs waiting, and a simulation of 10,000 jobs a day on 64 GPUs, with the
overhead that was measured and durations spread as those of `--durations`. The last line of output is JSON.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import shown
from benchmarks.scale import claims, cuts, simulation, work
from benchmarks.scale.network import hosts, why_not
from benchmarks.scale.page import page
from benchmarks.scale.stack import running
from tests.support.jobs import fake_engine

GOALS = {"speedup": 3.5, "service_seconds": 0.3, "claim_ms": 20.0}
TENANTS = ("crowd", "anna", "bela")
MEANS = (60.0, 240.0, 360.0, 480.0, 540.0)
"""Seconds of a mean job; 64 GPUs can do 553 for each of 10,000 jobs a day."""
SLEPT = float(fake_engine.STEPS + 1)
"""Seconds that a job's engine sleeps: one a step, the original's included."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON."""
    began, load = time.monotonic(), os.getloadavg()[0]
    most = max(arguments.workers)
    refused = why_not()
    with (
        tempfile.TemporaryDirectory(prefix="scale-") as place,
        hosts(most, arguments.network) as among,
        running(arguments.logs or Path(place), among) as stack,
    ):
        crowd = work.tenants(stack, Path(place), TENANTS)
        runs = []
        for count in arguments.workers:
            runs.append(work.throughput(stack, crowd, count, arguments.jobs))
            print(json.dumps(runs[-1]), file=sys.stderr)
        cut = cuts.cut(stack, among, crowd, most, arguments.cut) if arguments.cut and among.apart else None
        print(json.dumps(cut), file=sys.stderr)
        waiting = claims.measure(stack.database_url, arguments.waiting, 200)
    overhead = runs[-1]["job_seconds"] - SLEPT
    seconds = simulation.numbers(json.loads(arguments.durations.read_text()), arguments.key)
    found = {
        "hosts": refused or "namespaces",
        "runs": runs,
        "speedup": runs[-1]["jobs_a_second"] / runs[0]["jobs_a_second"],
        "overhead": overhead,
        "cut": cut,
        "claims": {"waiting": arguments.waiting, **waiting},
        "sizing": simulation.sizing(MEANS, seconds, overhead, arguments.days),
        "durations": len(seconds),
        "load_before": load,
        "seconds": time.monotonic() - began,
    }
    found["goals"] = {
        "speedup": found["speedup"] >= GOALS["speedup"] if (runs[0]["workers"], most) == (1, 4) else None,
        "cost": runs[-1]["cost"]["service"] < GOALS["service_seconds"],
        "claim": waiting["ms"] < GOALS["claim_ms"],
        "nothing lost": None if cut is None else not (cut["lost"] or cut["steps_wrong"] or cut["broken"]),
    }
    return found


def main() -> int:
    """Prints a page and JSON; returns 1 where a goal was missed. What could not be measured is no miss."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="in rising order")
    parser.add_argument("--jobs", type=int, default=12, help="for each worker")
    parser.add_argument("--cut", type=float, default=45.0, help="seconds; 0: no links are cut")
    parser.add_argument("--waiting", type=int, default=10_000, help="jobs in the queue that is claimed from")
    parser.add_argument("--days", type=int, default=6, help="that are simulated, the first to fill the queue")
    parser.add_argument("--durations", type=Path, default=Path("docs/results/whisper.json"), help="JSON with seconds")
    parser.add_argument("--key", default="seconds_to_make", help="of the values in it")
    parser.add_argument("--network", type=int, default=83, help="the third number of 10.77.x.0/24")
    parser.add_argument("--logs", type=Path, help="an empty folder that keeps every program's log")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page to write; its JSON lies beside it")
    arguments = parser.parse_args()
    if arguments.logs and arguments.logs.exists() and any(arguments.logs.iterdir()):
        parser.error("--logs: the folder is not empty, and what was logged before would be taken for now")
    # Ended by TERM, namespaces would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found = {**measure(arguments), "command": shown(parser, sys.argv[1:])}
    text = page(found)
    print(text)
    if arguments.write:
        arguments.write.write_text(text)
        arguments.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))
    return 1 if False in found["goals"].values() else 0


if __name__ == "__main__":
    raise SystemExit(main())
