"""Ends that a bound, the memory or a bad job brings about: what is kept, what is tried again, what the error says."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from api_schemas.results.events import Warned
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    Clock,
    MakeBench,
    attempts_with_a_log,
    epochs,
    events,
    finish,
    in_background,
    log_of,
    option,
    pids_in,
    seen_in,
    states,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone
from worker.supervisor import attempt


def warnings(bench: Bench, job_id: str) -> list[Warned]:
    return [event for event in events(bench, job_id) if isinstance(event, Warned)]


# --- an engine that says nothing ---


def test_a_silent_engine_is_killed_with_all_it_started_and_the_job_tried_again(
    make_bench: MakeBench, clock: Clock, tmp_path: Path
) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids", stall_seconds=15, lease_seconds=600)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: (tmp_path / "pids").exists() and bench.steps(job_id) == [0], what="the engine's hang")
    stall(thread, clock)
    pids = pids_in(tmp_path / "pids")
    wait_for(lambda: all(map(gone, pids)), what="the end of the process group")
    job = bench.job(job_id)
    assert (job.state, job.failures, job.error, bench.steps(job_id)) == (JobState.QUEUED, 1, None, [0])
    [warning] = warnings(bench, job_id)
    assert warning.code == ErrorCode.STALLED
    # The next attempt begins at step 1, after which this engine does not hang.
    assert supervisor(bench).run_one()
    assert (bench.job(job_id).state, epochs(bench, job_id)) == (JobState.SUCCEEDED, [1, 2, 2])


def test_a_job_that_stalls_again_and_again_fails_with_the_end_of_its_log(make_bench: MakeBench, clock: Clock) -> None:
    bench = make_bench("silent", stall_seconds=15, lease_seconds=600)
    job_id = bench.submit()
    for number in (1, 2, 3):
        thread = in_background(bench)
        wait_for(lambda number=number: silent(bench, job_id, number), what="the engine's hang")
        stall(thread, clock)
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.failures, job.error.code) == (JobState.FAILED, 3, ErrorCode.STALLED)
    assert "nothing more will be said" in job.error.detail
    assert [warning.code for warning in warnings(bench, job_id)] == [ErrorCode.STALLED] * 3


def silent(bench: Bench, job_id: str, number: int) -> bool:
    """The engine of this attempt hangs, and has said so."""
    return number in attempts_with_a_log(bench, job_id) and "nothing more will" in log_of(bench, job_id, number)


def stall(thread: threading.Thread, clock: Clock) -> None:
    """Silence for as long as is allowed, counted from whenever the supervisor has acted on what was said before it."""
    for _ in range(40):
        clock.forward(15)
        thread.join(0.5)
        if not thread.is_alive():
            return
    raise AssertionError("the supervisor does not notice that its engine is silent")


def test_an_engine_that_speaks_often_enough_does_not_stall(make_bench: MakeBench) -> None:
    """Each pause is shorter than the bound, all of them together are longer."""
    bench = make_bench("slow", stall_seconds=2.5)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert (job.finished_at - job.started_at).total_seconds() > 2.5


# --- an engine that is gone, but not what it started ---


def test_an_engine_that_was_killed_is_noticed_though_a_child_of_it_holds_its_output(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    """As when the kernel kills an engine whose own workers live on."""
    bench = make_bench("orphan", marker=tmp_path / "pids", failure_cap=1)
    job_id = bench.submit()
    finish(in_background(bench))
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.ENGINE_CRASHED)
    assert bench.steps(job_id) == [0]
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))), what="the end of the process group")


def test_no_child_leaves_the_process_group(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("orphan-escaped", marker=tmp_path / "pids", failure_cap=1)
    job_id = bench.submit()
    finish(in_background(bench))
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.ENGINE_CRASHED)
    assert "no way out of the process group" in log_of(bench, job_id, 1)
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))), what="the end of the process group")


def test_an_engine_that_finished_but_left_a_child_behind_has_finished(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("leftover", marker=tmp_path / "pids")
    job_id = bench.submit()
    finish(in_background(bench))
    assert (bench.job(job_id).state, bench.steps(job_id)) == (JobState.SUCCEEDED, [0, 1, 2])
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))), what="the child's end")


# --- a job's own time limit ---


def test_a_job_over_its_time_fails_and_keeps_its_steps(make_bench: MakeBench, clock: Clock, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit(limits={"max_runtime": 15})
    thread = in_background(bench)
    wait_for(lambda: (tmp_path / "pids").exists() and bench.steps(job_id) == [0], what="the engine's hang")
    clock.forward(15)
    finish(thread)
    assert not supervisor(bench).run_one()
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, ErrorCode.MAX_RUNTIME)
    assert "15 seconds" in job.error.detail
    assert bench.steps(job_id) == [0]
    assert states(bench, job_id) == ["queued", "running", "failed"]
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))), what="the end of the process group")


def test_the_time_of_a_job_is_that_of_all_its_attempts(make_bench: MakeBench, clock: Clock, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit(limits={"max_runtime": 20})
    shutdown = threading.Event()
    thread = in_background(bench, shutdown)
    wait_for(lambda: (tmp_path / "pids").exists() and bench.steps(job_id) == [0], what="the engine's hang")
    clock.forward(10)
    wait_for(lambda: bench.job(job_id).ran_seconds > 10, what="more than ten seconds of the first attempt")
    shutdown.set()
    finish(thread)
    job = bench.job(job_id)
    ran = job.ran_seconds
    assert (job.state, bench.steps(job_id)) == (JobState.QUEUED, [0])
    assert 10 < ran < 20
    clock.forward(100)
    second = make_bench("silent")
    thread = in_background(second)
    wait_for(lambda: silent(bench, job_id, 2), what="the second attempt")
    assert bench.job(job_id).ran_seconds < 20, "waiting in the queue was counted"
    # Less than the whole limit again.
    clock.forward(10)
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.MAX_RUNTIME)


def test_the_time_since_the_last_heartbeat_counts_too(make_bench: MakeBench, clock: Clock, tmp_path: Path) -> None:
    """A worker that is stopped between heartbeats, again and again, must not make a job's time stand still."""
    bench = make_bench("wait", marker=tmp_path / "go", lease_seconds=60, heartbeat_seconds=30)
    job_id = bench.submit()
    began = time.monotonic()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0], what="the first step")
    clock.forward(5)
    (tmp_path / "go").touch()
    finish(thread)
    took = time.monotonic() - began
    assert 5 < bench.job(job_id).ran_seconds <= 5 + took


def test_a_job_within_its_time_is_not_disturbed(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit(limits={"max_runtime": "1h"})
    supervisor(bench).run_one()
    assert bench.job(job_id).state is JobState.SUCCEEDED


# --- too little memory ---


def test_out_of_memory_is_tried_again_with_half_as_many_samples(make_bench: MakeBench) -> None:
    bench = make_bench("oom", "4")
    job_id = bench.submit(finetune={"batch_size": 8})
    assert supervisor(bench).run_until_empty() == 2
    job = bench.job(job_id)
    assert (job.state, job.attempts, job.microbatch, job.failures) == (JobState.SUCCEEDED, 2, 4, 0)
    assert epochs(bench, job_id) == [1, 2, 2]
    assert option(seen_in(bench, job_id, 0)["argv"], "--microbatch") is None
    assert option(seen_in(bench, job_id, 1)["argv"], "--microbatch") == "4"
    [warning] = warnings(bench, job_id)
    assert warning.code == ErrorCode.OUT_OF_MEMORY
    assert "at most 4 samples at a time instead of 8" in warning.detail


def test_out_of_memory_again_fails_and_says_with_how_many_samples(make_bench: MakeBench) -> None:
    bench = make_bench("oom", "2")
    job_id = bench.submit(finetune={"batch_size": 8})
    assert supervisor(bench).run_until_empty() == 2
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, job.attempts) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY, 2)
    assert job.error.detail == "The GPU is full. It used at most 4 samples at a time."
    assert bench.steps(job_id) == [0]


def test_out_of_memory_with_one_sample_is_not_tried_again(make_bench: MakeBench) -> None:
    bench = make_bench("oom", "0")
    job_id = bench.submit(finetune={"batch_size": 1})
    assert supervisor(bench).run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY)


def test_an_engine_that_the_kernel_killed_for_its_memory_is_tried_again_with_half(
    make_bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("crash-once", marker=tmp_path / "marker")
    job_id = bench.submit(evaluate={"batch_size": 32})
    counted = iter([0, 1, 1])
    monkeypatch.setattr(attempt, "oom_kills", lambda: next(counted))
    assert supervisor(bench).run_until_empty() == 2
    job = bench.job(job_id)
    assert (job.state, job.microbatch, epochs(bench, job_id)) == (JobState.SUCCEEDED, 16, [1, 1, 2])
    [warning] = warnings(bench, job_id)
    assert (warning.code, "kernel" in warning.detail) == (ErrorCode.OUT_OF_MEMORY, True)


def test_an_engine_that_was_killed_for_another_reason_keeps_its_samples(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("crash-once", marker=tmp_path / "marker")
    job_id = bench.submit()
    supervisor(bench).run_until_empty()
    assert (bench.job(job_id).state, bench.job(job_id).microbatch) == (JobState.SUCCEEDED, None)
    assert [warning.code for warning in warnings(bench, job_id)] == [ErrorCode.ENGINE_CRASHED]


# --- a job that ends every engine ---


@pytest.mark.parametrize("settings", [{}, {"retry_delay_seconds": 0.3}], ids=["at once", "after a wait"])
def test_a_poisonous_job_stops_at_the_cap_and_the_one_behind_it_runs(
    make_bench: MakeBench, settings: dict[str, Any]
) -> None:
    bench = make_bench("poison", **settings)
    poisonous, harmless = bench.submit(seed=13), bench.submit()
    watched = supervisor(bench)
    wait_for(lambda: watched.run_one() and bench.job(harmless).state is JobState.SUCCEEDED, what="the harmless job")

    def over() -> bool:
        watched.run_one()
        return bench.job(poisonous).state is JobState.FAILED

    wait_for(over, what="the end of the poisonous job")
    job = bench.job(poisonous)
    assert job.error is not None
    assert (job.failures, job.attempts, job.error.code) == (3, 3, ErrorCode.ENGINE_CRASHED)
    assert "this checkpoint kills every engine" in job.error.detail
    assert attempts_with_a_log(bench, poisonous) == [1, 2, 3]
    assert not watched.run_one(), "a failed job was claimed again"
    assert bench.job(harmless).attempts == 1
