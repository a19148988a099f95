"""Benches whose database is closed, and whose scratch folder is looked at, when the test ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs.bench import Bench, fake_engine
from tests.support.jobs.supervision import MakeBench


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
