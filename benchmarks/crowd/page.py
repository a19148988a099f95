"""The results as a page: one table, a column for every run."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.crowd import calls
from benchmarks.race.machine import describe

_HEAD = """# A full database

The time that the database takes for every kind of request, for a worker's writes and for every periodic task when it holds the
rows of many users. Times are in milliseconds between a statement and its result, summed over the statements of a call; each is
the median of several repetitions. Half of all rows belong to the tenant that sends the requests. Of every 1000 jobs, 960 have
ended and most of the others wait; paused jobs need 520 of the uploads. Commits are not included, because their time depends on
the disk. Goals, for 200,000 jobs on PostgreSQL: under 20 ms for requests and a worker's writes, under 200 ms for periodic tasks.
Times that miss their goal are in bold. The number of statements of a call is that of the last run.
"""
_HEADINGS = {
    calls.REQUEST: "Requests",
    calls.WORKER: "What a worker writes",
    calls.PERIODIC: "Periodic tasks, with nothing due unless the name says so",
}


def page(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of runs by label."""
    machine = describe(torch.device("cpu"), ("sqlalchemy", "psycopg"))
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("threads", "device"))
    about = [f"- *{label}*: {_about(found)}" for label, found in runs.items()]
    return "\n".join([_HEAD, *about, "", table(runs), "", f"Machine: {where}."]) + "\n"


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a call."""
    lines = [f"| ms | {' | '.join(runs)} | statements |", f"|---|{'---:|' * len(runs)}---:|"]
    named = {name: call["kind"] for found in runs.values() for name, call in found["calls"].items()}
    last = list(runs.values())[-1]["calls"]
    for kind, heading in _HEADINGS.items():
        lines.append(f"| **{heading}** |{' |' * len(runs)} |")
        for name in (name for name, of_kind in named.items() if of_kind == kind):
            cells = [_cell(found["calls"].get(name)) for found in runs.values()]
            lines.append(f"| {name} | {' | '.join(cells)} | {last.get(name, {}).get('statements', '')} |")
    return "\n".join(lines)


def _cell(call: Mapping[str, Any] | None) -> str:
    if call is None:
        return ""
    return f"{call['ms']:.1f}" if call["met"] else f"**{call['ms']:.1f}**"


def _about(found: Mapping[str, Any]) -> str:
    rows = found["rows"]
    files = rows["upload_files"] + rows["job_step_files"]
    return (
        f"`{found['command']}`, {found['seconds']} s: {found['server']}, {rows['jobs']:,} jobs, {rows['job_events']:,} events, "
        f"{files:,} files, {rows['audit']:,} audit entries, {rows['webhook_deliveries']:,} deliveries; {found['repetitions']} "
        f"repetitions; load average before the run {found['load_before']:.1f}."
    )
