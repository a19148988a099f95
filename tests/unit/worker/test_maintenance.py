"""What maintenance does at each tick; the ticks themselves are tested with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from api_schemas.enums import DeviceKind, JobState
from store.database.clock import now
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Needs
from store.jobs.workers.live_workers import Announcement
from store.queue import broker
from tests.support.jobs.bench import Bench
from tests.support.jobs.records import job_request
from tests.support.servers.databases import valkey_server
from worker import maintenance


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


def test_as_many_wakes_as_jobs_wait_and_no_more_at_the_next_tick(broker_url: str, tmp_path: Path) -> None:
    bench = Bench.make(tmp_path, broker_url=broker_url)
    with bench.database.write() as session:
        live_workers.announce(session, Announcement("a:1", "a", "a", DeviceKind.CPU, None, None, 1), 60)
        jobs.create(session, DEFAULT_TENANT, job_request(), {}, needs=Needs(DeviceKind.CUDA))
    assert maintenance.redispatch(bench.database, bench.settings) == 0, "no worker can hold it"
    bench.submit()
    bench.submit()
    assert maintenance.redispatch(bench.database, bench.settings) == 2
    assert broker.waiting_wakes(bench.settings) == 2
    assert maintenance.redispatch(bench.database, bench.settings) == 0
    bench.database.close()


def test_without_a_broker_a_tick_does_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench.make(tmp_path, broker_url="redis+socket:///nowhere/socket")
    bench.submit()
    assert maintenance.redispatch(bench.database, bench.settings) == 0
    assert "the broker does not answer" in caplog.text
    bench.database.close()


def test_a_job_under_a_living_lease_is_left_alone(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path, failure_cap=1)
    job_id = bench.submit()
    with bench.database.write() as session:
        transitions.claim(session, "a", 60, 1)
    assert maintenance.sweep(bench.database, bench.settings) == 0
    with bench.database.write() as session:
        session.execute(update(Job).values(lease_until=now(plus=-1)))
    assert maintenance.sweep(bench.database, bench.settings) == 1
    assert maintenance.sweep(bench.database, bench.settings) == 0
    assert bench.job(job_id).state is JobState.FAILED
    bench.database.close()
