"""The results as a page: one table, a column for every run."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.crowd import calls
from benchmarks.race.machine import describe

_HEAD = """# A full database

What every kind of request, a worker's writes and every periodic task ask of a database that a crowd has filled: milliseconds
between a statement and its answer, added up over the statements of a call, the median of several repetitions. Half of all rows
belong to the tenant that asks; of 1000 jobs 960 have ended, the rest mostly waits, and 520 uploads are needed by paused jobs.
Commits are not in it, which take what the disk takes. Goals, for 200,000 jobs on PostgreSQL: requests and a worker's writes under
20 ms, periodic tasks under 200 ms; what misses its goal is set in bold. Of a call the number of statements is the last run's.
"""
_HEADINGS = {
    calls.REQUEST: "Requests",
    calls.WORKER: "What a worker writes",
    calls.PERIODIC: "Periodic tasks; nothing is due, but where the name says so",
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
        f"repetitions; load of the machine before {found['load_before']:.1f}."
    )
