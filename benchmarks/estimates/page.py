"""The page of the benchmark: a table of all jobs, and one of their phases."""

from collections.abc import Mapping
from typing import Any

TEXT = """# Estimates of a first job

Before a job of a family has finished, the time of one is estimated as a range, from a measurement of the worker's device that
takes about two seconds ([why and how](../adr/0071-first-estimates.md)). Here the ranges are compared with what jobs really took.

`{command}`

Jobs run by the engine alone, on one thread of a CPU; models with random weights but for those of the demo, the AST and the
Whisper. The machine was shared with other work, so the *wall* says little. *Took* is the processor's time of the engine and what
it started, divided by the *load*: how many times as long a small piece of work took that was done once a second beside the job,
compared with its fastest. That is about what the job takes on a machine of its own. Constants of the model were set by looking
at the jobs marked *fitted*; the others are a test of them.

| job | fitted | estimate, s | spans a factor of | took, s | inside | processor, s | load | wall, s |
|---|---|---:|---:|---:|---|---:|---:|---:|
{rows}

{verdict}

## By phase

From and to, and in brackets what it took, in seconds. Errors of phases partly cancel out in the sum.

| job | {names} |
|---|{dashes}|
{phases}

## What was measured of the device

One thread. An encoder layer, by its FLOPs: {layers}. A product in float64: {float64:.0f} GFLOP a second.
"""
PHASES = ("starting", "preparing", "scoring", "analysing", "pruning", "finetuning", "evaluating", "packaging")


def page(found: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.estimates` found, as Markdown."""
    rows, speed = found["rows"], found["speed"]
    layers = (
        f"{each['flops'] / 1e6:.3g} MFLOP {1e3 * each['forward']:.2g} ms forward and {1e3 * each['training']:.2g} ms with its "
        "gradients"
        for each in speed["layers"]
    )
    return TEXT.format(
        command=found["command"],
        rows="\n".join(map(_row, rows)),
        verdict=_verdict(rows, found["not_run"]),
        names=" | ".join(PHASES),
        dashes="|".join(["---:"] * len(PHASES)),
        phases="\n".join(map(_phases, rows)),
        layers="; ".join(layers),
        float64=speed["float64_flops"] / 1e9,
    )


def _row(row: Mapping[str, Any]) -> str:
    cells = (
        row["name"], "yes" if row["fitted"] else "", f"{row['low']:.0f} to {row['high']:.0f}", f"{row['high'] / row['low']:.1f}",
        f"{row['took']:.0f}", "yes" if row["inside"] else "**no**", f"{row['processor']:.0f}", f"{row['load']:.2f}",
        f"{row['wall']:.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _verdict(rows: list[Mapping[str, Any]], not_run: list[str]) -> str:
    inside = sum(row["inside"] for row in rows)
    tested = [row for row in rows if not row["fitted"]]
    held = sum(row["inside"] for row in tested)
    widest = max(row["high"] / row["low"] for row in rows)
    return (
        f"{inside} of {len(rows)} jobs took a time inside their range; of the {len(tested)} that no constant was set by, {held}. "
        f"The widest range spans a factor of {widest:.1f}."
        + (f" Not run yet: {'; '.join(not_run)}." if not_run else "")
    )


def _phases(row: Mapping[str, Any]) -> str:
    return f"| {row['name']} | {' | '.join(_phase(row['phases'].get(name)) for name in PHASES)} |"


def _phase(phase: Mapping[str, Any] | None) -> str:
    if phase is None or (phase["said"] is None and not phase["took"]):
        return ""
    said = "–" if phase["said"] is None else "{:.1f} to {:.1f}".format(*phase["said"])
    return f"{said} ({phase['took']:.1f})"
