"""A running job that is asked to hand its worker to one of higher priority: at a step or a saved epoch, and goes on later."""

import threading
from pathlib import Path

import pytest

from api_schemas.enums import DeviceKind, JobState
from api_schemas.results.events import StateChanged
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import preemption, transitions
from store.jobs.workers import live_workers
from store.jobs.workers.live_workers import Announcement
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    MakeBench,
    epochs,
    events,
    finish,
    in_background,
    option,
    seen_in,
    states,
    supervisor,
)
from tests.support.servers.databases import wait_for
from worker import maintenance


def low_and_high(bench: Bench) -> tuple[str, str, threading.Thread]:
    """A job under way that has been asked to make way, the one that it is for, and the thread of the only worker."""
    low = bench.submit(priority=-3)
    thread = in_background(bench)
    wait_for(lambda: bench.steps(low) == [0], what="step 0")
    worker = bench.job(low).worker
    assert worker is not None
    with bench.database.write() as session:
        live_workers.announce(session, Announcement(worker, "w", "w", DeviceKind.CPU, None, None, 2**40), 600)
    high = bench.submit(priority=3)
    assert maintenance.preempt(bench.database, bench.settings) == 1
    assert maintenance.preempt(bench.database, bench.settings) == 0, "asked once"
    return low, high, thread


@pytest.mark.parametrize(
    ("behaviour", "handed_back_at", "committed_by"), [("wait", [0, 1], [1, 1, 2]), ("wait-training", [0], [1, 2, 2])]
)
def test_it_hands_back_where_nothing_is_lost_and_goes_on_after_the_other(
    make_bench: MakeBench, tmp_path: Path, behaviour: str, handed_back_at: list[int], committed_by: list[int]
) -> None:
    bench = make_bench(behaviour, marker=tmp_path / "go", preemption="tenant")
    low, high, thread = low_and_high(bench)
    assert bench.job(low).state is JobState.RUNNING
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(low)
    assert (job.state, job.failures, job.preemptions, job.yields_to) == (JobState.QUEUED, 0, 1, high)
    assert bench.steps(low) == handed_back_at
    assert supervisor(bench).run_until_empty() == 2
    low_job, high_job = bench.job(low), bench.job(high)
    assert (low_job.state, high_job.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    assert None not in (low_job.claimed_at, high_job.finished_at)
    assert low_job.claimed_at >= high_job.finished_at  # type: ignore[operator]
    assert (epochs(bench, low), epochs(bench, high)) == (committed_by, [1, 1, 1])
    assert states(bench, low) == ["queued", "running", "running", "queued", "running", "succeeded"]
    said = [event.detail for event in events(bench, low) if isinstance(event, StateChanged) and event.detail]
    assert said == [preemption.ASKED, transitions.PREEMPTED]
    gone_on_at = len(handed_back_at)
    assert option(seen_in(bench, low, gone_on_at)["argv"], "--resume") == str(gone_on_at - 1)
    trained = option(seen_in(bench, low, gone_on_at)["argv"], "--training")
    assert (trained is not None) is (behaviour == "wait-training")


def test_it_keeps_its_worker_where_the_other_does_not_wait_any_more(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go", preemption="tenant")
    low, high, thread = low_and_high(bench)
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, high)
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(low)
    assert (job.state, job.attempts, job.preemptions) == (JobState.SUCCEEDED, 1, 0)


def test_after_its_last_step_it_ends(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait-before-last", marker=tmp_path / "go", preemption="tenant")
    low = bench.submit(priority=-3)
    thread = in_background(bench)
    wait_for(lambda: bench.steps(low) == [0, 1], what="all steps but the last")
    high = bench.submit(priority=3)
    with bench.database.write() as session:
        row = session.get_one(type(bench.job(low)), low)
        row.yields_to = high
    (tmp_path / "go").touch()
    finish(thread)
    assert (bench.job(low).state, bench.job(low).attempts) == (JobState.SUCCEEDED, 1)


def test_nothing_is_asked_by_default(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    with pytest.raises(AssertionError, match="assert 0 == 1"):
        low_and_high(bench)
    (tmp_path / "go").touch()
    wait_for(lambda: [job.name for job in threading.enumerate() if job.name.startswith("heartbeat")] == [], what="end")
