"""A job whose dataset is on the hub: fetched by a child, handed to the engine, or a clear end."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from tests.support.jobs.bench import Bench, fake_engine
from tests.support.servers.hub import REVISION, hub_server
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"label": ["yes", "no"]}), buffer)
    return buffer.getvalue()


@contextmanager
def hub_job(tmp_path: Path, files: dict[str, bytes], **settings: Any) -> Iterator[tuple[Bench, str]]:
    with hub_server({"some/words": files}) as endpoint:
        bench = Bench.make(
            tmp_path,
            engine_command=fake_engine("finish"),
            hub_url=endpoint,
            outbound_test_target=endpoint.removeprefix("http://"),
            lease_seconds=20,
            **settings,
        )
        yield bench, bench.submit(dataset={"type": "hf", "id": "some/words", "revision": REVISION})
        bench.database.close()


def run(bench: Bench) -> int:
    scratch = Scratch(bench.settings.scratch)
    return Supervisor(bench.settings, bench.database, bench.artifacts, scratch, threading.Event()).run_until_empty()


def test_the_engine_gets_the_fetched_dataset(tmp_path: Path) -> None:
    with hub_job(tmp_path, {"data/train-00000-of-00001.parquet": parquet()}) as (bench, job_id):
        assert run(bench) == 1
        job = bench.job(job_id)
        assert (job.state, job.error) == (JobState.SUCCEEDED, None)


def test_a_dataset_that_is_refused_ends_the_job_at_once_and_says_why(tmp_path: Path) -> None:
    with hub_job(tmp_path, {"data.csv": b"a"}) as (bench, job_id):
        assert run(bench) == 1
        job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, ErrorCode.DATASET_FETCH_FAILED)
    assert "it has no parquet, audio" in job.error.detail
    assert "some/words" in job.error.detail


def test_a_hub_that_is_away_is_tried_up_to_the_cap(tmp_path: Path) -> None:
    with hub_job(tmp_path, {}, failure_cap=2) as (bench, job_id):
        away = bench.settings.model_copy(
            update={"hub_url": "http://127.0.0.1:1", "outbound_test_target": "127.0.0.1:1"}
        )
        assert run(Bench(away, bench.database, bench.artifacts)) == 2
        job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.failures, job.error.code) == (JobState.FAILED, 2, ErrorCode.DATASET_FETCH_FAILED)
