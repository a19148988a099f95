"""A job that is told to pause: the step that runs is kept, the engine ends, and what follows goes on from there."""

import threading
from pathlib import Path

from api_schemas.enums import JobState
from api_schemas.results.events import Started
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import transitions
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    MakeBench,
    epochs,
    events,
    finish,
    in_background,
    option,
    pids_in,
    seen_in,
    states,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone


def pause(bench: Bench, job_id: str) -> Job:
    with bench.database.write() as session:
        return transitions.pause(session, DEFAULT_TENANT, job_id)


def resume(bench: Bench, job_id: str) -> Job:
    with bench.database.write() as session:
        return transitions.resume(session, DEFAULT_TENANT, job_id)


def paused_after_step_1(bench: Bench, marker: Path) -> str:
    """A job whose pause was asked for after step 0 was committed and before step 1 was written."""
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="step 0")
    assert pause(bench, job_id).pause_requested
    assert bench.job(job_id).state is JobState.RUNNING
    marker.touch()
    finish(thread)
    return job_id


def test_a_job_pauses_once_the_step_that_runs_is_committed(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = paused_after_step_1(bench, tmp_path / "go")
    job = bench.job(job_id)
    assert (job.state, job.failures, job.error, job.lease_until) == (JobState.PAUSED, 0, None, None)
    assert not job.pause_requested
    assert bench.steps(job_id) == [0, 1]
    assert states(bench, job_id)[-1] == "paused"


def test_the_engine_of_a_paused_job_is_gone_with_all_it_started(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("clinging", marker=tmp_path / "pids")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="step 0")
    pids = pids_in(tmp_path / "pids")
    assert not any(map(gone, pids))
    pause(bench, job_id)
    (tmp_path / "pids.go").touch()
    finish(thread)
    wait_for(lambda: all(map(gone, pids)), what="the end of the process group")
    assert (bench.job(job_id).state, bench.steps(job_id)) == (JobState.PAUSED, [0, 1])


def test_a_resumed_job_goes_on_with_the_next_step(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = paused_after_step_1(bench, tmp_path / "go")
    assert not supervisor(bench).run_one(), "a paused job was claimed"
    assert resume(bench, job_id).state is JobState.QUEUED
    assert supervisor(bench).run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.attempts, job.failures) == (JobState.SUCCEEDED, 2, 0)
    assert epochs(bench, job_id) == [1, 1, 2]
    assert option(seen_in(bench, job_id, 0)["argv"], "--resume") is None
    assert option(seen_in(bench, job_id, 2)["argv"], "--resume") == "1"
    assert [event.resumed_from for event in events(bench, job_id) if isinstance(event, Started)] == [None, 1]
    assert states(bench, job_id) == ["queued", "running", "running", "paused", "queued", "running", "succeeded"]


def test_a_pause_during_the_last_step_lets_the_job_succeed(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait-before-last", marker=tmp_path / "go")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0, 1], what="all steps but the last")
    assert pause(bench, job_id).pause_requested
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.pause_requested, job.attempts) == (JobState.SUCCEEDED, False, 1)
    assert bench.steps(job_id) == [0, 1, 2]
    assert "paused" not in states(bench, job_id)


def test_where_a_bound_is_the_target_any_step_may_be_followed_by_another(make_bench: MakeBench, tmp_path: Path) -> None:
    """The engine says how many there are once it goes back from one: also the last that it spoke of ends in a pause."""
    bench = make_bench("wait-before-last", marker=tmp_path / "go")
    job_id = bench.submit(pruning={"target": {"max_drop": 0.01}})
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0, 1], what="all steps but the last")
    assert pause(bench, job_id).pause_requested
    (tmp_path / "go").touch()
    finish(thread)
    assert (bench.job(job_id).state, bench.steps(job_id)) == (JobState.PAUSED, [0, 1, 2])


def test_a_pause_that_was_taken_back_does_nothing(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="step 0")
    assert pause(bench, job_id).pause_requested
    assert not resume(bench, job_id).pause_requested
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    assert epochs(bench, job_id) == [1, 1, 1]


def test_a_job_whose_engine_crashes_before_the_pause_is_paused_and_not_tried_again(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench("crash-before-1", marker=tmp_path / "go")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="step 0")
    pause(bench, job_id)
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.failures, bench.steps(job_id)) == (JobState.PAUSED, 1, [0])
    assert not supervisor(bench).run_one()
    resume(bench, job_id)
    assert supervisor(bench).run_until_empty() == 1
    assert (bench.job(job_id).state, epochs(bench, job_id)) == (JobState.SUCCEEDED, [1, 2, 2])


def test_a_cancel_wins_over_a_pause_that_is_still_to_come(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="step 0")
    pause(bench, job_id)
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.pause_requested, bench.steps(job_id)) == (JobState.CANCELLED, False, [0])


def test_a_shutdown_with_a_pause_to_come_pauses_the_job(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    shutdown = threading.Event()
    thread = in_background(bench, shutdown)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    pause(bench, job_id)
    shutdown.set()
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.failures, job.pause_requested) == (JobState.PAUSED, 0, False)
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))), what="the engine's end")
