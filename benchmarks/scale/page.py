"""The results as a page."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.race.machine import describe
from benchmarks.scale.cost import SERVICE

_HEAD = """# Several workers

Workers on separate hosts, set up as in [several-hosts.md](../howto/several-hosts.md). The hosts are network namespaces of one
machine, with one worker in each. The API, maintenance, PostgreSQL and Valkey with passwords, and a bucket (moto) are on the
other side of a bridge. A job has three steps. In each, the engine sleeps for a second instead of computing, because this
benchmark measures the service and not the engines; all processes share this machine's cores. There are three tenants; the first
submits half of all jobs before the others start.
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
    said = f"`{found['command']}`, {found['seconds']:.0f} s; load average before the run {found['load_before']:.1f}."
    if found["hosts"] != "namespaces":
        said += f" **No namespaces here ({found['hosts']}): everything ran on loopback, and no link was cut.**"
    return said


def _throughput(found: Mapping[str, Any]) -> str:
    first = found["runs"][0]["jobs_a_second"]
    lines = [
        "## Throughput\n",
        "Measured from the first submission to the end of the last job. A job's time is from its claim to its end; its",
        "overhead is that time without the sleep.\n",
        "| workers | jobs | succeeded | seconds | jobs per second | times one worker | seconds per job |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {run['workers']} | {run['jobs']} | {run['succeeded']} | {run['seconds']:.1f} | {run['jobs_a_second']:.3f} "
        f"| {run['jobs_a_second'] / first:.2f} | {run['job_seconds']:.2f} |"
        for run in found["runs"]
    ]
    said = f"Goal: four workers at least 3.5 times one: {_met(found, 'speedup')}."
    if any(run["jobs_a_second"] > run["workers"] * first for run in found["runs"]):
        said += " A factor above the number of workers means that the machine was busier with other work while one worker ran."
    return "\n".join([*lines, "", said])


def _cost(found: Mapping[str, Any]) -> str:
    names = ("service", *SERVICE, "engines", "s3")
    lines = [
        "## What a job costs\n",
        "Processor seconds per job. They include its submission, one request for its state, and the service's periodic work.",
        "*service* does not include the engines (sandbox, interpreter, sleeping program) or the stand-in for the bucket.\n",
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
        "Claims that were made while every tenant had a job waiting: each tenant's share of them, and the longest run of claims",
        "without one for some tenant.\n",
        "| workers | such claims | shares | longest run without |",
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
            f"While {cut['workers']} workers ran jobs, the links of half of them, and later of all, were down for",
            f"{cut['seconds']:.0f} s, with a lease of 20 s. {meanwhile['half']} jobs ended with half of the links down,",
            f"{meanwhile['all']} with all links down.\n",
            "| | |",
            "|---|---:|",
            f"| jobs | {cut['jobs']} |",
            f"| jobs lost | {cut['lost']} |",
            f"| jobs with a step committed twice or left out | {cut['steps_wrong']} |",
            f"| jobs with a gap in their events, or a file that does not match its SHA-256 | {cut['broken']} |",
            f"| jobs that were claimed more than once | {cut['claimed_again']} |",
        ]
    )


def _claims(found: Mapping[str, Any]) -> str:
    claims = found["claims"]
    return "\n".join(
        [
            "## A long queue\n",
            f"With {claims['waiting']:,} waiting jobs of ten tenants, a claim takes {claims['ms']:.1f} ms (median of",
            f"{claims['claims']}, from the beginning of its transaction to its commit; 95% take at most {claims['p95_ms']:.1f}",
            f"ms), of which {claims['statements_ms']:.1f} ms are in the database. Goal: under 20 ms: {_met(found, 'claim')}.",
        ]
    )


def _sizing(found: Mapping[str, Any]) -> str:
    lines = [
        "## 10,000 jobs a day, simulated\n",
        f"Durations are distributed like {found['durations']} measured ones (pruning a Whisper on two cores,",
        "[whisper.md](whisper.md)) and scaled to the mean; each job also holds its GPU for the overhead above,",
        f"{found['overhead']:.2f} s. *Even*: jobs arrive at random at any hour; *by day*: 80% of them arrive within ten hours.",
        "How long jobs take on a GPU has not been measured ([gpu.md](gpu.md)): use the mean of your own jobs. Waiting times",
        "are in seconds, on 64 GPUs; *needed* is the smallest number of GPUs with which 95% wait at most ten minutes.\n",
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
