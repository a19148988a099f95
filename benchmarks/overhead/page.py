"""The results as a page: what was asked, then a table for every label."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.race.machine import describe

_HEAD = """# What a job costs beside the engine's own work

One job over HTTP on a stack started by `secateur up` (SQLite, a local folder), and the same by `python -m worker.engine` alone
afterwards, both on one thread. The wall goes from submitting to `succeeded`, of the engine from starting its process to its end;
the first parts add up to it. A reload gate is the fresh process that loads every packaged step; its time is a part of the phase
`packaging`. *Own work* is the phases without `starting` and without the gates, *overhead* the rest of the wall. An idle worker's
first event is the median of several submits: when it was recorded, and when somebody who follows the job's stream saw it.
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
    lines.append(f"| **wall** | **{service['wall']:.2f}** | **{engine['wall']:.2f}** |")
    if "starting" in service["phases"]:
        lines.append(f"| of it in the phase `starting` | {_seconds(service['phases']['starting'])} | |")
    lines += [
        f"| of it in reload gates | {_seconds(service['gates'])} | {_seconds(engine['gates'])} |",
        f"| of it storing all steps, beside the engine's work but for the last | {_seconds(service['stored'])} | |",
        f"| own work | {_seconds(service['own'])} | {_seconds(engine['own'])} |",
        "",
        "| | service | engine alone | goal |",
        "|---|---:|---:|---|",
        f"| overhead, share of the wall | {service['overhead']:.1%} | {engine['overhead']:.1%} | under 5% |",
        f"| phases, share of the wall | {service['covered']:.1%} | {engine['covered']:.1%} | at least 97% |",
        f"| submit to first event, idle worker, recorded | {found['first_event']['recorded']:.2f} s | | under 1 s |",
        f"| the same, seen on the stream | {found['first_event']['seen']:.2f} s | | |",
    ]
    return "\n".join(lines)


def _about(found: Mapping[str, Any]) -> str:
    job = found["job"]
    return (
        f"`{found['command']}`, {found['seconds']} s: preset paper, {job['sparsity']:.0%} of attention in {job['steps']} steps, "
        f"{job['epochs']} epochs of recovery after each; {found['submits']} submits. Load of the machine before: "
        f"{found['load_before']:.1f}."
    )


def _seconds(value: float | None) -> str:
    return "" if not value else f"{value:.2f}"
