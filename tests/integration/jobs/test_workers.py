"""Real Celery workers, a real Valkey, and everything that is taken away from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis
from sqlalchemy import update

from api_schemas.enums import DeviceKind, JobState
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Needs
from store.queue import broker
from tests.support.jobs.bench import Bench, fake_engine
from tests.support.jobs.records import job_request
from tests.support.servers.databases import valkey_server, wait_for
from tests.support.servers.processes import CeleryProcess, gone, job_worker, maintenance_worker

NEVER: Any = {"lease_seconds": 7200, "heartbeat_seconds": 3600}
"""A worker does not look for work by itself again."""
ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


@pytest.fixture
def broker_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


def wake(bench: Bench) -> None:
    assert broker.publish_outbox(bench.database, bench.settings) > 0


def wait_for_state(bench: Bench, job_id: str, *states: JobState) -> None:
    wait_for(lambda: bench.job(job_id).state in states, 30, f"one of {[state.value for state in states]}")


def assert_says_nothing_to_others(worker: CeleryProcess, broker_url: str) -> None:
    """Who gossips listens to a channel that all workers share, and who mingles says so."""
    wait_for(lambda: worker.ready, 30, "the worker")
    with Redis(unix_socket_path=urlsplit(broker_url).path) as valkey:
        assert (valkey.pubsub_channels(), valkey.pubsub_numpat()) == ([], 0)
    assert "mingle" not in worker.log.read_text()


def test_a_wake_up_makes_a_worker_run_all_jobs(broker_url: str, postgres_database: Database, tmp_path: Path) -> None:
    url = postgres_database.url.render_as_string(hide_password=False)
    bench = Bench.make(tmp_path, broker_url=broker_url, database_url=url, engine_command=fake_engine("finish"), **NEVER)
    with job_worker(bench.settings, tmp_path / "worker.log") as worker:
        assert_says_nothing_to_others(worker, broker_url)
        submitted = [bench.submit(), bench.submit()]
        wake(bench)
        for job_id in submitted:
            wait_for_state(bench, job_id, *ENDED)
        assert {bench.job(job_id).state for job_id in submitted} == {JobState.SUCCEEDED}
        assert bench.steps(submitted[0]) == [0, 1, 2]
        worker.terminate()
        assert worker.process.wait(10) == 0
    bench.database.close()


def test_a_worker_that_starts_looks_for_work_whose_wake_up_was_lost(broker_url: str, tmp_path: Path) -> None:
    bench = Bench.make(tmp_path, broker_url=broker_url, engine_command=fake_engine("finish"))
    job_id = bench.submit()  # Nobody publishes.
    with job_worker(bench.settings, tmp_path / "worker.log") as worker:
        wait_for_state(bench, job_id, JobState.SUCCEEDED)
        # Later wake-ups are lost, too, or taken by workers that cannot hold the job.
        with bench.database.write() as session:
            too_much = jobs.create(
                session, DEFAULT_TENANT, job_request(priority=5), {}, needs=Needs(DeviceKind.CUDA)
            ).id
        later = bench.submit()
        wait_for_state(bench, later, JobState.SUCCEEDED)
        assert bench.job(too_much).attempts == 0
        assert announced(bench) == [(bench.job(job_id).worker, DeviceKind.CPU)]
        worker.terminate()
        assert worker.process.wait(10) == 0
        assert announced(bench) == []
    bench.database.close()


def announced(bench: Bench) -> list[tuple[str, DeviceKind | None]]:
    with bench.database.read() as session:
        return [(each.row.id, each.row.device) for each in live_workers.page(session, None, 20)[0]]


def test_sigterm_ends_a_stuck_engine_and_hands_the_job_back(broker_url: str, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    bench = Bench.make(tmp_path, broker_url=broker_url, engine_command=fake_engine("stuck", marker=marker))
    job_id = bench.submit()
    with job_worker(bench.settings, tmp_path / "worker.log") as worker:
        wait_for(lambda: marker.exists() and bench.steps(job_id) == [0], 30, "the engine's hang")
        worker.terminate()
        assert worker.process.wait(15) == 0, worker.log.read_text()
    job = bench.job(job_id)
    assert (job.state, job.failures) == (JobState.QUEUED, 0)
    wait_for(lambda: all(gone(int(pid)) for pid in marker.read_text().split()), what="the engine's end")
    assert list(bench.settings.scratch.iterdir()) == []
    bench.database.close()


def test_the_job_of_a_killed_worker_is_finished_by_another(broker_url: str, tmp_path: Path) -> None:
    """The worker dies by KILL in the middle of a job, and its engine with it; maintenance wakes another, which goes on."""
    marker = tmp_path / "go"
    bench = Bench.make(
        tmp_path, broker_url=broker_url, engine_command=fake_engine("wait", marker=marker), sweep_seconds=0.5
    )
    job_id = bench.submit()
    first = job_worker(bench.settings, tmp_path / "first.log")
    with (
        first,
        job_worker(bench.settings, tmp_path / "second.log") as second,
        maintenance_worker(bench.settings, tmp_path / "maintenance.log"),
    ):
        wait_for(lambda: bench.steps(job_id) == [0], 30, "the first step")
        holder = bench.job(job_id).worker or ""
        dead, other = (first, second) if holder.endswith(f":{first.process.pid}") else (second, first)
        engines = psutil.Process(dead.process.pid).children(recursive=True)
        assert engines
        dead.kill()
        wait_for(lambda: all(gone(engine.pid) for engine in engines), what="the end of the orphaned engine")
        with bench.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(plus=-1)))
        marker.touch()
        wait_for_state(bench, job_id, *ENDED)
        job = bench.job(job_id)
        assert (job.state, job.attempts, job.failures) == (JobState.SUCCEEDED, 2, 0)
        assert job.worker is not None
        assert job.worker.endswith(f":{other.process.pid}")
        assert bench.steps(job_id) == [0, 1, 2]
    bench.database.close()


def test_a_worker_that_is_started_again_after_a_kill_goes_on_at_once(broker_url: str, tmp_path: Path) -> None:
    """The lease has an hour to go, and nobody sweeps or wakes: the new worker alone knows that the old one is gone."""
    marker = tmp_path / "go"
    bench = Bench.make(
        tmp_path, broker_url=broker_url, engine_command=fake_engine("wait", marker=marker), lease_seconds=3600
    )
    job_id = bench.submit()
    with job_worker(bench.settings, tmp_path / "first.log") as first:
        wait_for(lambda: bench.steps(job_id) == [0], 30, "the first step")
        engines = psutil.Process(first.process.pid).children(recursive=True)
        first.kill()
        marker.touch()
        with job_worker(bench.settings, tmp_path / "second.log"):
            wait_for_state(bench, job_id, *ENDED)
            assert all(gone(engine.pid) for engine in engines)
        job = bench.job(job_id)
        assert (job.state, job.attempts) == (JobState.SUCCEEDED, 2)
    assert list(bench.settings.scratch.iterdir()) == []
    bench.database.close()


def test_maintenance_publishes_what_the_broker_refused_and_ends_what_nobody_will(
    broker_url: str, tmp_path: Path
) -> None:
    bench = Bench.make(
        tmp_path, broker_url=broker_url, engine_command=fake_engine("finish"), sweep_seconds=0.5, **NEVER
    )
    abandoned = bench.submit()
    with bench.database.write() as session:
        transitions.claim(session, "a worker that died", 0.1, 3)
        transitions.cancel(session, DEFAULT_TENANT, abandoned)
    with maintenance_worker(bench.settings, tmp_path / "maintenance.log") as maintenance:
        wait_for_state(bench, abandoned, JobState.CANCELLED)
        assert_says_nothing_to_others(maintenance, broker_url)
        with job_worker(bench.settings, tmp_path / "worker.log") as worker:
            wait_for(lambda: worker.ready, 30, "the worker")
            job_id = bench.submit()  # Its wake-up stays in the outbox.
            wait_for_state(bench, job_id, JobState.SUCCEEDED)
    bench.database.close()
