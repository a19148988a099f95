"""A job that keeps the only worker busy for long delays nothing that keeps other jobs moving."""

import time
from pathlib import Path

from sqlalchemy import func, select, update

from api_schemas.enums import JobState
from store.database.clock import now
from store.database.tables import Job, OutboxMessage
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import transitions
from tests.support.jobs.bench import Bench, fake_engine
from tests.support.servers.databases import valkey_server, wait_for
from tests.support.servers.processes import job_worker, maintenance_worker

MOST_SECONDS = 60.0


def test_while_the_only_worker_is_busy_sweeps_and_messages_go_on(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    with valkey_server() as url:
        bench = Bench.make(
            tmp_path, broker_url=url, engine_command=fake_engine("wait", marker=marker), sweep_seconds=1.0
        )
        busy = bench.submit()
        with (
            job_worker(bench.settings, tmp_path / "worker.log"),
            maintenance_worker(bench.settings, tmp_path / "maintenance.log"),
        ):
            wait_for(lambda: bench.steps(busy) == [0], 60, "the busy worker")
            for _ in range(3):
                abandoned = bench.submit()
                with bench.database.write() as session:
                    session.execute(update(Job).where(Job.id == abandoned).values(priority=100))
                    assert transitions.claim(session, "a worker that died", 0.01, 3) is not None
                with bench.database.write() as session:
                    session.execute(update(Job).where(Job.id == abandoned).values(lease_until=now(plus=-1)))
                    transitions.cancel(session, DEFAULT_TENANT, abandoned)
                began = time.monotonic()
                wait_for(
                    lambda job_id=abandoned: bench.job(job_id).state is JobState.CANCELLED, MOST_SECONDS, "the sweep"
                )
                wait_for(lambda: _waiting(bench) == 0, MOST_SECONDS, "the outbox")
                print(f"swept and sent after {time.monotonic() - began:.1f} s")
                time.sleep(2)
            assert bench.job(busy).state is JobState.RUNNING
            marker.touch()
            wait_for(lambda: bench.job(busy).state is JobState.SUCCEEDED, 30, "the end of the long job")
        bench.database.close()


def _waiting(bench: Bench) -> int:
    with bench.database.read() as session:
        return session.scalar(select(func.count()).select_from(OutboxMessage)) or 0
