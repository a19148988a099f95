"""Benches whose database is closed, and whose scratch folder is looked at, when the test ends; and a clock to set forward."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs.bench import Bench, fake_engine
from tests.support.jobs.supervision import Clock, MakeBench
from worker.lease import heartbeat, retries
from worker.supervisor import attempt, supervisor


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(*behaviour: str, marker: Path | None = None, **settings: Any) -> Bench:
        bench = Bench.make(tmp_path, engine_command=fake_engine(*behaviour, marker=marker), **settings)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.database.close()
        assert list(bench.settings.scratch.glob("worker-*/job_*")) == [], "a job's scratch folder was left"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of whatever supervises engines in this process."""
    made = Clock()
    for module in (supervisor, attempt, heartbeat, retries):
        monkeypatch.setattr(module, "time", made)
    return made
