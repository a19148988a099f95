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
        f"Written by `python -m benchmarks.api` in {found['seconds']} s: {where}. SQLite, one uvicorn process per server, eight",
        "connections; the client and both servers share the cores. *Bare* is a FastAPI application that has one table and the",
        "same file system, and nothing else.",
        "",
        "| | ours | bare | ours / bare | goal |",
        "|---|---:|---:|---:|---|",
        _rate("polls per second", poll, "at least 0.50"),
        _slowest("polling, p99, ms", poll, "under 5"),
        _rate("jobs submitted per second", submit, "–"),
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
        lines.append(f"| growth of the server's memory, MiB | {row['growth_mib']:.0f} | | | under 64 |")
    lines += [
        "",
        f"{streams['count']} event streams were open at once (opened in {streams['open_seconds']:.1f} s, "
        f"{streams['growth_mib']:.0f} MiB).",
        f"When their jobs were cancelled, {streams['reached']} received the event: half of them within "
        f"{streams['median_seconds']:.2f} s,",
        f"the last after {streams['last_seconds']:.2f} s.",
        f"Meanwhile a poll took {streams['poll_ms']:.0f} ms.",
        "",
        *_neighbour(found["neighbour"]),
        "",
        "## Where the time of a poll goes",
        "",
        "Sampled with py-spy (`py-spy record --gil`) while eight clients poll. A quarter of the time goes to FastAPI's and",
        "Starlette's routing, dependencies and validation, which the bare server does as well; a sixth to reading the job",
        "through SQLAlchemy's ORM; a seventh to the request's log line, which the bare server does not write; the rest to",
        "middleware (key, host, sizes, metrics) and to handing the request to a thread. By these shares, the server would",
        "reach more than half of the bare server's rate without the log line.",
        "",
    ]
    return "\n".join(lines)


def _neighbour(found: dict[str, Any]) -> list[str]:
    """One tenant's requests while another's datasets are checked."""
    lines = [
        "## Another tenant's checks",
        "",
        "One tenant polls over one connection: first alone, then while a maintenance worker on the same cores checks",
        f"{found['hostile']} datasets of another tenant, with three million rows each. Each of the two lasts about as long as",
        "one check, and the pair is measured twice. Goals: the p99 of the list under twice its value alone, the p99 of",
        "`/healthz` under 100 ms. The other tenant calls `complete` for all its datasets at the same moment. That slows the",
        "requests of the following second, so their median is in a column of its own.",
        "",
        "| ms | alone, p50 | p99 | max | during checks, p50 | p99 | max | first second, p50 | p99, during / alone |",
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
