"""The results as a page."""

from typing import Any

import torch

from benchmarks.race.machine import describe


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    machine = describe(torch.device("cpu"), ("fastapi", "starlette", "uvicorn", "sqlalchemy", "obstore"))
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("threads", "device"))
    poll, submit, streams = found["poll"], found["submit"], found["streams"]
    lines = [
        "# The API under load",
        "",
        f"Written by `python -m benchmarks.api` in {found['seconds']} s: {where}. SQLite, one process of uvicorn each, eight",
        "connections; the client and both servers share the cores. *Bare*: FastAPI with nothing but a table and the same",
        "file system.",
        "",
        "| | ours | bare | ours of bare | goal |",
        "|---|---:|---:|---:|---|",
        _rate("polls a second", poll, "at least 0.50"),
        _slowest("polling, p99, ms", poll, "under 5"),
        _rate("jobs submitted a second", submit, "–"),
        _slowest("submitting, p99, ms", submit, "–"),
    ]
    for way, name, goal in (
        ("up", "upload", "at least 0.60"),
        ("pieces", "resumable upload", "–"),
        ("down", "download", "at least 0.60"),
    ):
        row = found["transfer"][way]
        lines.append(
            f"| {name} of {found['gib']:g} GiB, MiB/s | {row['ours']:.0f} | {row['bare']:.0f} | {row['share']:.2f} "
            f"| {goal} |"
        )
        lines.append(f"| memory that it takes, MiB | {row['growth_mib']:.0f} | | | under 64 |")
    lines += [
        "",
        f"{streams['count']} event streams were open at once (opened in {streams['open_seconds']:.1f} s, "
        f"{streams['growth_mib']:.0f} MiB).",
        f"When their jobs were cancelled, {streams['reached']} heard of it, half within {streams['median_seconds']:.2f} s,",
        f"the last after {streams['last_seconds']:.2f} s.",
        f"A poll meanwhile took {streams['poll_ms']:.0f} ms.",
        "",
        *_neighbour(found["neighbour"]),
        "",
        "## What a poll is spent on",
        "",
        "Sampled with py-spy (`py-spy record --gil`) while eight clients poll: a quarter in FastAPI's and Starlette's",
        "routing, dependencies and validation, which the bare server pays as well; a sixth in reading the job by SQLAlchemy's",
        "ORM; a seventh in the request's line of the log, which the bare server does not write; the rest in middleware (key,",
        "host, sizes, metrics) and in handing the request to a thread. By these shares, without that line it would be above",
        "half of the bare server.",
        "",
    ]
    return "\n".join(lines)


def _neighbour(found: dict[str, Any]) -> list[str]:
    """One tenant's requests while another's datasets are checked."""
    lines = [
        "## Beside another tenant",
        "",
        f"One tenant polls over one connection, alone and while another has {found['hostile']} datasets of three million",
        "rows each checked, by a maintenance worker that shares the cores; in turn, twice, for about as long as one check",
        "takes. Goals: the p99 of the list under twice what it is alone, that of `/healthz` under 100 ms. All are completed in",
        "the same moment, and the requests of the first second after it feel that: their median is given too.",
        "",
        "| ms | alone, p50 | p99 | most | beside, p50 | p99 | most | first second, p50 | p99, times alone |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for path, row in found["rows"].items():
        times = [row[f"{state}_{name}"] for state in ("idle", "beside") for name in ("p50_ms", "p99_ms", "most_ms")]
        cells = " | ".join(f"{value:.1f}" for value in (*times, row["first_p50_ms"]))
        lines.append(f"| `{path}` | {cells} | {row['beside_p99_ms'] / row['idle_p99_ms']:.2f} |")
    return lines


def _rate(name: str, row: dict[str, Any], goal: str) -> str:
    ours, bare = row["ours"]["per_second"], row["bare"]["per_second"]
    return f"| {name} | {ours:.0f} | {bare:.0f} | {row['throughput']:.2f} | {goal} |"


def _slowest(name: str, row: dict[str, Any], goal: str) -> str:
    return f"| {name} | {row['ours']['p99_ms']:.1f} | {row['bare']['p99_ms']:.1f} | {row['p99']:.2f} | {goal} |"
