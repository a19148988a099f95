"""The results as a page: how it was measured, then for every label a table of jobs and one of phases."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.memory.service import MOST_GROWTH, growth
from benchmarks.race.machine import describe

_HEAD = """# Memory that a job needs on its host

One-shot `best`, half of the attention removed, on the CPU with one thread, for checkpoints of published sizes with random weights
and a few clips. This says nothing about accuracy, and other work ran on the machine, so it says little about time. *N* is the
size of the weights in the uploaded files. *Held* is the most that the engine's process held of pages that the kernel cannot
reclaim (anonymous and shared memory): what `SECATEUR_ENGINE_MEMORY_BYTES` limits and a step's `memory.host` reports. *With the
gate* adds the new process that loads each packaged step with transformers alone. *Resident* also counts pages of mapped files,
which stay only as long as nobody else needs the memory. The goal is to hold at most 1.3 N + 1.5 GiB. *Growth* is what a job
reports beyond its start, divided by the bytes that an estimate counts for it. An estimate multiplies those bytes by the growth of
the family's finished jobs, so it is as accurate as this number is constant from one job to the next.

Runs labelled *before* used the same command on the version before large tensors lay in files; those jobs report the peak of
resident pages, and count other bytes. Runs of *whole* models used the version that also gives freed memory back to the system;
*freed memory kept* and the others, of models with a few layers and of AST-base, used the version before that. *Gate in files*:
the gate's process also puts what it converts from half precision into mapped files; before, it held that in memory. Jobs *by
magnitude* (`--magnitude`) score nothing on samples and refit nothing: they show the phases that load, write and check a model.

*Through the service* prunes nothing. The client sends a checkpoint in shards, in pieces, and completes it; an estimate is
requested; a step with the same files, stored as a worker stores one, is downloaded. All of this runs on one machine, with other
work. The API checks a model in its own process; the maintenance worker reads the dataset in one of its *children*, which runs
only while nothing else needs the processor, so the seconds of that line say nothing on a busy machine. The goal is that the
memory held by the API grows by less than 64 MiB beyond what it holds idle. *Freed memory returned* used the version whose API
gives the memory of uploaded pieces back to the system.
"""


def page(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of runs by label."""
    machine = describe(torch.device("cpu"))
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("threads", "device"))
    sections = [f"## {label}\n\n`{found['command']}`\n\n{tables(found['runs'])}" for label, found in runs.items()]
    return "\n\n".join([_HEAD.rstrip(), *sections, f"Machine: {where}."]) + "\n"


def _gib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.2f}"


def _growth(run: Mapping[str, Any]) -> str:
    """What the job says beyond its start, in bytes that estimates count for it."""
    return f"{(run['said']['host'] - run['base']) / run['tensor_bytes']:.2f}"


def tables(runs: Sequence[Mapping[str, Any]]) -> str:
    """Of jobs, or of what went through a service."""
    if "service" in runs[0]:
        return "\n\n".join(map(through_service, runs))
    return f"{table(runs)}\n\n{phases(runs)}"


def through_service(run: Mapping[str, Any]) -> str:
    """A line for all that was done, in MiB."""
    shards, weights = run["shards"], _gib(run["weights"])
    lines = [
        f"{run['shape']}, {run['dtype']}: {weights} GiB in {shards} files. What the API held grew by "
        f"{_mib(growth(run['service']))} MiB at most. The goal is under {_mib(MOST_GROWTH)}.",
        "",
        "| MiB | seconds | API, held | API, resident | maintenance, held | its children, held |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, found in run["service"].items():
        api, other = found["api"], found["maintenance"]
        cells = " | ".join(map(_mib, (api["held"], api["resident"], other["held"], other["children"])))
        lines.append(f"| {what} | {found['seconds']:.1f} | {cells} |")
    return "\n".join(lines)


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f}"


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A line a job, in GiB."""
    lines = [
        "| GiB | N | goal | held | with the gate | resident | said by the job | held / N | growth |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        numbers = (run["weights"], run["goal"], run["held"], run["together"], run["resident"], run["said"]["host"])
        cells = " | ".join(map(_gib, numbers))
        lines.append(
            f"| {run['shape']}, {run['dtype']} | {cells} | {run['held'] / run['weights']:.2f} | {_growth(run)} |"
        )
    return "\n".join(lines)


def phases(runs: Sequence[Mapping[str, Any]]) -> str:
    """A line a phase of each job: what was held in it, and the processor's seconds, of the engine and its children."""
    lines = ["| GiB held, and processor seconds | held | with the gate | seconds |", "|---|---:|---:|---:|"]
    for run in runs:
        for phase, found in run["phases"].items():
            held, together = _gib(found["held"]), _gib(found["together"])
            lines.append(f"| {run['shape']}, {phase} | {held} | {together} | {found['processor']:.0f} |")
    return "\n".join(lines)
