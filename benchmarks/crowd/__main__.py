"""What every call and every periodic task asks of a database that is full: 200,000 jobs, 2 million events, 2 million files.

    python -m benchmarks.crowd [--jobs 200000] [--server postgresql] [--write docs/results/crowd.md --label after]

The database is made for the run and removed after it. Milliseconds are those between a statement and its answer, added up over
the statements of a call; of several repetitions the median counts. The last line of output is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Engine, event

from benchmarks.command import shown
from benchmarks.crowd import calls
from benchmarks.crowd.calls import Call
from benchmarks.crowd.fill import fill
from benchmarks.crowd.page import page, table
from benchmarks.kept_runs import keep
from service.app import create_app
from service.services import Services
from store.database.connection import Database
from store.settings import Settings
from tests.support.checks import checking
from tests.support.local import local_client
from tests.support.servers.databases import fresh_database, postgres_server
from tests.support.uploads import checkpoint_files, dataset_files, declared, send

GOALS = {calls.REQUEST: 20.0, calls.WORKER: 20.0, calls.PERIODIC: 200.0}
"""Milliseconds of database time."""
DAY = 86_400


class StatementClock:
    """Adds up what an engine's statements take."""

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0.0
        self.statements = 0
        self._began = 0.0
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", self._end)

    def reset(self) -> None:
        self.seconds, self.statements = 0.0, 0

    def _begin(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began
        self.statements += 1


def timed(clock: StatementClock, wanted: Iterable[Call], repetitions: int) -> dict[str, dict[str, Any]]:
    """Of each call the median and the slowest, in milliseconds; the first time is not counted."""
    found: dict[str, dict[str, Any]] = {}
    for call in wanted:
        spent, wall = [], []
        for number in range(repetitions + 1):
            clock.reset()
            began = time.perf_counter()
            call.ask(number)
            wall.append(1000 * (time.perf_counter() - began))
            spent.append(1000 * clock.seconds)
        found[call.name] = {
            "kind": call.kind, "ms": round(median(spent[1:]), 2), "slowest_ms": round(max(spent[1:]), 2),
            "wall_ms": round(median(wall[1:]), 2), "statements": clock.statements,
            "met": median(spent[1:]) < GOALS[call.kind],
        }  # fmt: skip
        print(f"{call.name}: {found[call.name]['ms']} ms", file=sys.stderr)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON."""
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crowd-") as place, _server(arguments.server, Path(place)) as url:
        settings = Settings(
            data_dir=Path(place), database_url=url, broker_url="redis://127.0.0.1:1/0", max_stored_bytes=2**60,
            max_waiting_jobs=10**9, upload_retention_seconds=90 * DAY, result_retention_seconds=90 * DAY,
            audit_retention_seconds=90 * DAY, webhook_log_seconds=90 * DAY, log_level="error",
        )  # fmt: skip
        database = Database(url)
        database.migrate()
        crowd = fill(database, arguments.jobs)
        filled = time.monotonic() - began
        database.close()
        with local_client(create_app(settings)) as client, checking(settings):
            model = send(client, "models", checkpoint_files()).json()["id"]
            dataset = client.get(f"/v1/datasets/{send(client, 'datasets', dataset_files()).json()['id']}").json()
            deadline = time.monotonic() + 60
            while dataset["state"] != "ready" and time.monotonic() < deadline:
                dataset = client.get(f"/v1/datasets/{dataset['id']}").json()
        app = create_app(settings)
        services: Services = app.state.services
        with local_client(app) as client:
            clock = StatementClock(services.database.engine)
            job = {
                "model": {"type": "upload", "id": model},
                "dataset": {"type": "upload", "id": dataset["id"]},
                "pruning": {"target": {"attention_sparsity": 0.5}},
            }
            upload = {"files": declared(checkpoint_files())}
            for file in upload["files"]:
                file["sha256"] = "ab" * 32 if file["name"] == "config.json" else file["sha256"]
            found = timed(clock, calls.requests(client, services, crowd, job, upload), arguments.repetitions)
            found |= timed(clock, calls.writes(services), arguments.repetitions)
            found |= timed(clock, calls.periodic(services, crowd, settings), arguments.repetitions)
    return {
        "jobs": arguments.jobs, "server": arguments.server, "rows": crowd.counts, "calls": found,
        "repetitions": arguments.repetitions, "load_before": round(load, 2), "fill_seconds": round(filled),
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip


@contextmanager
def _server(name: str, folder: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{folder / 'crowd.db'}"
        return
    with postgres_server() as server, fresh_database(server) as url:
        yield url


def main() -> int:
    """Prints a table and JSON; returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowd", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000, help="with ten events and ten files for each")
    parser.add_argument("--server", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--label", default="now", help="of this run among those on the page")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="the page, which keeps runs of other labels; their JSON lies beside it",
    )
    arguments = parser.parse_args()
    found = {**measure(arguments), "command": shown(parser, sys.argv[1:])}
    print(table({arguments.label: found}))
    if arguments.write:
        keep(arguments.write, arguments.label, found, page)
    print(json.dumps(found))
    return 0 if all(call["met"] for call in found["calls"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
