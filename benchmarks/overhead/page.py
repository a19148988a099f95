"""The results as a page: what was asked, then a table for every label."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.race.machine import describe

_HEAD = """# The overhead of a job

One job is submitted over HTTP to a stack started by `secateur up` (SQLite, a local folder). Then the same job is run by
`python -m worker.engine` alone. Both use one thread. For the service, wall time is from submission to `succeeded`; for the
engine alone, from the start of its process to its end. The rows above *wall time* add up to it. A reload check is the fresh
process that loads every packaged step; its time is part of the phase `packaging`. *Engine's work* is all phases except
`starting`, without the reload checks; *overhead* is the rest of the wall time. The first event of a job on an idle worker is
the median of several submissions: when the event was recorded, and when a client that follows the job's event stream received
it.
"""


def page(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of runs by label."""
    machine = describe(torch.device("cpu"))
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("threads", "device"))
    sections = [f"## {label}\n\n{_about(found)}\n\n{table(found)}" for label, found in runs.items()]
    return "\n\n".join([_HEAD.rstrip(), *sections, f"Machine: {where}."]) + "\n"


def table(found: Mapping[str, Any]) -> str:
    """Seconds, service beside engine alone; then what follows from them."""
    service, engine = found["service"], found["engine"]
    lines = ["| seconds | service | engine alone |", "|---|---:|---:|"]
    for name in {**service["parts"], **engine["parts"]}:
        lines.append(f"| {name} | {_seconds(service['parts'].get(name))} | {_seconds(engine['parts'].get(name))} |")
    lines.append(f"| **wall time** | **{service['wall']:.2f}** | **{engine['wall']:.2f}** |")
    if "starting" in service["phases"]:
        lines.append(f"| of which in the phase `starting` | {_seconds(service['phases']['starting'])} | |")
    lines += [
        f"| of which in reload checks | {_seconds(service['gates'])} | {_seconds(engine['gates'])} |",
        f"| of which storing all steps; for all but the last, the engine works meanwhile | {_seconds(service['stored'])} | |",
        f"| engine's work | {_seconds(service['own'])} | {_seconds(engine['own'])} |",
        "",
        "| | service | engine alone | goal |",
        "|---|---:|---:|---|",
        f"| overhead, share of wall time | {service['overhead']:.1%} | {engine['overhead']:.1%} | under 5% |",
        f"| phases, share of wall time | {service['covered']:.1%} | {engine['covered']:.1%} | at least 97% |",
        f"| submission to first event, idle worker, recorded | {found['first_event']['recorded']:.2f} s | | under 1 s |",
        f"| the same, received from the stream | {found['first_event']['seen']:.2f} s | | |",
    ]
    return "\n".join(lines)


def _about(found: Mapping[str, Any]) -> str:
    job = found["job"]
    return (
        f"`{found['command']}`, {found['seconds']} s: preset paper, {job['sparsity']:.0%} of attention in {job['steps']} steps, "
        f"{job['epochs']} epochs of recovery after each; {found['submits']} submissions. Load average before the run: "
        f"{found['load_before']:.1f}."
    )


def _seconds(value: float | None) -> str:
    return "" if not value else f"{value:.2f}"
