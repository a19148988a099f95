"""A long drill on the whole stack: kill, wait, kill again; count what was lost, done twice or came out differently.

    python -m benchmarks.faults --kills 100 [--server sqlite] [--results docs/results]

Trains the tiny model of the tests first. Lease 4 s. The last line of output is JSON.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.command import shown
from benchmarks.faults.drill import Drill, Outcome
from benchmarks.faults.stack import running_stack
from benchmarks.race.machine import describe
from tests.support.checkpoints.tiny import tiny_data, tiny_model

WEIGHTS = {
    "engine": 4, "worker": 4, "machine": 2, "maintenance": 1, "beat": 1, "api": 1, "valkey": 2, "postgresql": 1,
}  # fmt: skip

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def main(argv: list[str] | None = None) -> int:
    """Returns 0 where nothing was lost, duplicated or different."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--logs", type=Path, help="folder that keeps everything, every program's log too")
    parser.add_argument("--results", type=Path, help="folder to write faults.md into")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    weights = {kind: weight for kind, weight in WEIGHTS.items() if kind != "postgresql" or arguments.server == kind}
    began = time.monotonic()
    with ExitStack() as scope:
        folder = arguments.logs or Path(scope.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        stack = scope.enter_context(running_stack(folder, arguments.server))
        drill = Drill(stack, tiny_model(), tiny_data())
        outcome = drill.run(arguments.kills, arguments.seed, weights, say=lambda line: print(line, flush=True))
    seconds = time.monotonic() - began
    for what in (*outcome.lost, *outcome.duplicated, *outcome.differing):
        print(what)
    if arguments.results:
        command = shown(parser, sys.argv[1:] if argv is None else argv)
        (arguments.results / "faults.md").write_text(_page(outcome, arguments.server, seconds, command))
    print(json.dumps({**outcome.as_json(), "server": arguments.server, "seconds": round(seconds)}))
    return 1 if outcome.lost or outcome.duplicated or outcome.differing or outcome.strays else 0


def _page(outcome: Outcome, server: str, seconds: float, command: str) -> str:
    found = outcome.as_json()
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["by_kind"].items())
    rows = {
        "kills": f"{found['kills']} ({kinds})",
        "jobs": found["jobs"],
        "jobs lost": found["lost"],
        "jobs with a step committed twice or left out": found["duplicated"],
        "jobs whose weights, configs or records differ from the undisturbed run's": found["differing"],
        "engines that outlived their worker": found["strays"],
        "median time to resume": f"{found['median_seconds_to_resume']} s (lease 4 s)",
        "slowest": f"{found['slowest_seconds_to_resume']} s",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    machine = ", ".join(f"{name} {value}" for name, value in describe(torch.device("cpu")).items())
    return f"""# The fault drill

The drill sends SIGKILL at random moments to parts of a whole stack with {NAMES[server]}: the API, two job workers, maintenance,
beat, and Valkey without persistence. A job has three steps with two epochs of recovery each, and two jobs run at all times. The
time to resume is from the kill until a new engine has loaded its libraries and reports that it continues the job.

| | |
|---|---|
{table}

`{command}`, {seconds / 60:.0f} minutes; {machine}.
"""


if __name__ == "__main__":
    sys.exit(main())
