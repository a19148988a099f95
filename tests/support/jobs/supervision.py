"""A supervisor of a bench, run here or in a thread, and what became of its jobs."""

import atexit
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api_schemas.results.events import JobEventBody, StateChanged
from store.database.clock import now
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, logs
from tests.support.jobs.bench import FAKE_ENGINE, Bench
from tests.support.servers.databases import wait_for
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

MakeBench = Callable[..., Bench]


class Clock:
    """What a module may have instead of `time`: it runs as time does, and a test that would have to wait sets it forward."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += seconds


def let_a_lease_pass(bench: Bench, job_id: str, clock: Clock) -> None:
    """More than one, in the worker's time and in the database's: a third of it at once, and then as long as a renewal takes."""
    third = bench.settings.lease_seconds / 3
    for _ in range(4):
        clock.forward(third)
        with bench.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(plus=2 * third)))
        left = bench.job(job_id).lease_until
        wait_for(lambda left=left: (bench.job(job_id).lease_until or left) > left, what="a renewal")


def supervisor(bench: Bench, shutdown: threading.Event | None = None) -> Supervisor:
    scratch = Scratch(bench.settings.scratch)
    made = Supervisor(bench.settings, bench.database, bench.artifacts, scratch, shutdown or threading.Event())
    atexit.register(made.close)
    return made


def fork_fake_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a supervisor forks the fake engine from a template process, as it does the real one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr("worker.supervisor.engines.PROGRAM", (sys.executable, str(FAKE_ENGINE)))
    monkeypatch.setattr("worker.supervisor.engines.WARM", "tests.support.jobs.forked_fake_engine")


def in_background(
    bench: Bench, shutdown: threading.Event | None = None, runner: Supervisor | None = None
) -> threading.Thread:
    """One job, by `runner` or by a supervisor of its own."""
    thread = threading.Thread(target=(runner or supervisor(bench, shutdown)).run_one)
    thread.start()
    return thread


def finish(thread: threading.Thread) -> None:
    thread.join(20)
    assert not thread.is_alive()


def events(bench: Bench, job_id: str) -> list[JobEventBody]:
    with bench.database.read() as session:
        return [event.body for event in jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 1000)]


def states(bench: Bench, job_id: str) -> list[str]:
    return [event.state.value for event in events(bench, job_id) if isinstance(event, StateChanged)]


def epochs(bench: Bench, job_id: str) -> list[int]:
    """Which claim committed each step."""
    with bench.database.read() as session:
        return [step.epoch for step in jobs.steps(session, DEFAULT_TENANT, job_id)]


def log_of(bench: Bench, job_id: str, attempt: int) -> str:
    """All of it, piece by piece as a client reads it."""
    text, offset = "", 0
    with bench.database.read() as session:
        while (piece := logs.read(session, DEFAULT_TENANT, job_id, attempt, offset, 100_000)).text:
            text, offset = text + piece.text, piece.end
    return text


def attempts_with_a_log(bench: Bench, job_id: str) -> list[int]:
    with bench.database.read() as session:
        return list(logs.attempts(session, DEFAULT_TENANT, job_id))


def pids_in(marker: Path) -> list[int]:
    """What an engine that hangs wrote: itself and a child of its own."""
    return list(map(int, marker.read_text().split()))


def seen_in(bench: Bench, job_id: str, step: int) -> dict[str, Any]:
    """What the fake engine noted of its surroundings when it wrote a step."""
    with bench.database.read() as session:
        [file] = [
            file for file in jobs.steps(session, DEFAULT_TENANT, job_id)[step].files if file.name == "pruning.json"
        ]
    assert file.key is not None
    seen: dict[str, Any] = json.loads(b"".join(bench.artifacts.read(file.key)))["seen"]
    return seen


def option(argv: list[str], name: str) -> str | None:
    """The value of an option of the engine's command line."""
    return argv[argv.index(name) + 1] if name in argv else None
