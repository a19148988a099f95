"""The results as a page."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.race.machine import describe
from benchmarks.scale.cost import SERVICE

_HEAD = """# Several workers

Workers on hosts of their own, as [several-hosts.md](../howto/several-hosts.md) has them: network namespaces of one machine, a
worker in each; API, maintenance, PostgreSQL and Valkey with passwords, and a bucket (moto) on the other side of a bridge. A job
is three steps of an engine that sleeps a second in each instead of computing, so that it is not the engines that are measured;
all share this machine's cores. Three tenants; the first hands in half of all jobs before the others come.
"""


def page(found: Mapping[str, Any]) -> str:
    """Markdown."""
    machine = describe(torch.device("cpu"), ("celery", "sqlalchemy", "psycopg", "simpy"))
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("threads", "device"))
    parts = [
        _HEAD.rstrip(),
        _about(found),
        _throughput(found),
        _cost(found),
        _turns(found),
        _cuts(found),
        _claims(found),
    ]
    return "\n\n".join([*parts, _sizing(found), f"Machine: {where}."]) + "\n"


def _about(found: Mapping[str, Any]) -> str:
    said = f"`{found['command']}`, {found['seconds']:.0f} s; load of the machine before {found['load_before']:.1f}."
    if found["hosts"] != "namespaces":
        said += f" **No namespaces here ({found['hosts']}): all ran on loopback, and no link was cut.**"
    return said


def _throughput(found: Mapping[str, Any]) -> str:
    first = found["runs"][0]["jobs_a_second"]
    lines = [
        "## Throughput\n",
        "From the first submission to the last end. A job's time goes from its claim to its end, what is not sleep in it is the",
        "overhead.\n",
        "| workers | jobs | succeeded | seconds | jobs a second | times one worker | seconds a job |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {run['workers']} | {run['jobs']} | {run['succeeded']} | {run['seconds']:.1f} | {run['jobs_a_second']:.3f} "
        f"| {run['jobs_a_second'] / first:.2f} | {run['job_seconds']:.2f} |"
        for run in found["runs"]
    ]
    said = f"Goal: four workers at least 3.5 times one: {_met(found, 'speedup')}."
    if any(run["jobs_a_second"] > run["workers"] * first for run in found["runs"]):
        said += " More than as many times means that the machine was busier with other things while one worker ran."
    return "\n".join([*lines, "", said])


def _cost(found: Mapping[str, Any]) -> str:
    names = ("service", *SERVICE, "engines", "s3")
    lines = [
        "## What a job costs\n",
        "Processor seconds a job, its submission and one question for its state included, and what the service does all the",
        "time. Not in it are the engines (the cage, an interpreter, the sleeping program) and the bucket's stand-in.\n",
        f"| workers | {' | '.join(names)} |",
        f"|---:|{'---:|' * len(names)}",
    ]
    for run in found["runs"]:
        cells = " | ".join(f"{run['cost'][name]:.3f}" for name in names)
        lines.append(f"| {run['workers']} | {cells} |")
    return "\n".join([*lines, "", f"Goal: the service under 0.3 s: {_met(found, 'cost')}."])


def _turns(found: Mapping[str, Any]) -> str:
    lines = [
        "## Turns\n",
        "Claims made while every tenant had a job waiting: each one's share, and the most claims in a row that a tenant was left",
        "out of.\n",
        "| workers | such claims | shares | left out of |",
        "|---:|---:|---|---:|",
    ]
    for run in found["runs"]:
        turns = run["turns"]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in turns.get("shares", {}).items())
        lines.append(f"| {run['workers']} | {turns['claims']} | {shares} | {turns.get('gap', '')} |")
    return "\n".join(lines)


def _cuts(found: Mapping[str, Any]) -> str:
    cut = found["cut"]
    if cut is None:
        return "## Cut links\n\nNot measured in this run."
    meanwhile = cut["ended_meanwhile"]
    return "\n".join(
        [
            "## Cut links\n",
            f"Of {cut['workers']} workers with jobs under way the links of half, later of all, were down for",
            f"{cut['seconds']:.0f} s, with a lease of 20 s. {meanwhile['half']} jobs ended with half of the links down,",
            f"{meanwhile['all']} with all.\n",
            "| | |",
            "|---|---:|",
            f"| jobs | {cut['jobs']} |",
            f"| jobs lost | {cut['lost']} |",
            f"| jobs with a step committed twice or left out | {cut['steps_wrong']} |",
            f"| jobs with a gap in their events, or a file that is not what it is said to be | {cut['broken']} |",
            f"| jobs that were claimed more than once | {cut['claimed_again']} |",
        ]
    )


def _claims(found: Mapping[str, Any]) -> str:
    claims = found["claims"]
    return "\n".join(
        [
            "## A long queue\n",
            f"With {claims['waiting']:,} jobs of ten tenants waiting a claim takes {claims['ms']:.1f} ms (median of",
            f"{claims['claims']}, from the beginning of its transaction to its commit; 95% at most {claims['p95_ms']:.1f} ms),",
            f"{claims['statements_ms']:.1f} ms of it in the database. Goal: under 20 ms: {_met(found, 'claim')}.",
        ]
    )


def _sizing(found: Mapping[str, Any]) -> str:
    lines = [
        "## 10,000 jobs a day, simulated\n",
        f"Durations are spread as {found['durations']} that were measured (what pruning a Whisper took on two cores,",
        "[whisper.md](whisper.md)) and stretched to the mean; each holds its GPU for the overhead above,",
        f"{found['overhead']:.2f} s, as well. *Even*: jobs come at random at any hour; *by day*: 80% of them within ten hours.",
        "What a job takes on a GPU is not known here ([gpu.md](gpu.md)): look up your own mean. Waiting is in seconds, on 64",
        "GPUs; *needed* is the least number of GPUs with which 95% wait at most ten minutes.\n",
        "| mean s | even: p50 | p95 | busy | needed | by day: p50 | p95 | busy | needed |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["sizing"]:
        cells = " | ".join(_load(row[load]) for load in ("even", "by_day"))
        lines.append(f"| {row['mean']:.0f} | {cells} |")
    return "\n".join(lines)


def _load(row: Mapping[str, Any]) -> str:
    if row["offered"] >= 1:
        return f"grows | grows | 100% | {row['needed']}"
    return f"{row['p50']:,.0f} | {row['p95']:,.0f} | {row['utilisation']:.0%} | {row['needed']}"


def _met(found: Mapping[str, Any], goal: str) -> str:
    return {True: "met", False: "missed", None: "not measured"}[found["goals"][goal]]
