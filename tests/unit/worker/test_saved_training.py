"""The state of a long recovery: saved, handed to the next attempt, forgotten with its step; never a reason to fail."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from api_schemas.results.events import TrainingSaved
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    MakeBench,
    epochs,
    events,
    finish,
    in_background,
    log_of,
    option,
    seen_in,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.storage import Flaky

STATE = b"state" * 100


def killed_after_saving(bench: Bench, marker: Path) -> str:
    """A job whose first attempt ended by KILL in the recovery of step 1, with a state of it saved."""
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.job(job_id).training, what="a saved state")
    marker.with_suffix(".go").touch()
    finish(thread)
    assert (bench.job(job_id).state, bench.steps(job_id)) == (JobState.QUEUED, [0])
    return job_id


def test_a_saved_state_is_durable_and_named_by_the_job(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("training", marker=tmp_path / "marker")
    job_id = killed_after_saving(bench, tmp_path / "marker")
    training = bench.job(job_id).training
    assert training is not None
    assert (training.step, training.epoch, training.size) == (1, 1, len(STATE))
    assert b"".join(bench.artifacts.read(training.key)) == STATE
    assert [event.epoch for event in events(bench, job_id) if isinstance(event, TrainingSaved)] == [1]


def test_the_next_attempt_gets_the_saved_state(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("training", marker=tmp_path / "marker")
    job_id = killed_after_saving(bench, tmp_path / "marker")
    assert supervisor(bench).run_one()
    assert (bench.job(job_id).state, epochs(bench, job_id)) == (JobState.SUCCEEDED, [1, 2, 2])
    assert option(seen_in(bench, job_id, 0)["argv"], "--training") is None
    assert option(seen_in(bench, job_id, 1)["argv"], "--training") is not None
    assert f"training of {len(STATE)} bytes" in log_of(bench, job_id, 2)
    assert option(seen_in(bench, job_id, 1)["argv"], "--training-seconds") == str(bench.settings.training_seconds)


def test_a_saved_state_is_forgotten_once_its_step_is_committed(make_bench: MakeBench, tmp_path: Path) -> None:
    """The attempt after that begins another step: a state of the one before must not reach it."""
    bench = make_bench("training-stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang after step 1")
    wait_for(lambda: bench.steps(job_id) == [0, 1], what="step 1")
    assert [event.step for event in events(bench, job_id) if isinstance(event, TrainingSaved)] == [1]
    assert bench.job(job_id).training is None
    os.kill(int((tmp_path / "pids").read_text().split()[0]), signal.SIGKILL)
    finish(thread)
    assert supervisor(bench).run_one()
    assert (bench.job(job_id).state, epochs(bench, job_id)) == (JobState.SUCCEEDED, [1, 1, 2])
    assert option(seen_in(bench, job_id, 2)["argv"], "--training") is None


@pytest.mark.parametrize("code", [ErrorCode.STORAGE_FULL, ErrorCode.STORAGE_UNAVAILABLE])
def test_a_state_that_cannot_be_stored_costs_nothing(make_bench: MakeBench, code: ErrorCode) -> None:
    bench = make_bench("training-saved")
    store = Flaky(bench.settings.artifacts_url, code)
    store.refuses_put = lambda key: "-training/" in key
    job_id = bench.submit()
    assert supervisor(replace(bench, artifacts=store)).run_until_empty() == 1
    assert len(store.refused) == 1, "a state is not worth a wait"
    job = bench.job(job_id)
    assert (job.state, job.failures, job.attempts) == (JobState.SUCCEEDED, 0, 1)
    assert [event for event in events(bench, job_id) if isinstance(event, TrainingSaved)] == []


@pytest.mark.parametrize("harm", ["remove", "change", "shorten", "refuse"])
def test_a_saved_state_that_is_damaged_makes_the_recovery_begin_anew(
    make_bench: MakeBench, tmp_path: Path, harm: str
) -> None:
    bench = make_bench("training", marker=tmp_path / "marker", storage_patience_seconds=0.3)
    job_id = killed_after_saving(bench, tmp_path / "marker")
    training = bench.job(job_id).training
    assert training is not None
    path = tmp_path / "artifacts" / training.key
    store = Flaky(bench.settings.artifacts_url)
    match harm:
        case "remove":
            path.unlink()
        case "change":
            path.write_bytes(STATE[::-1])
        case "shorten":
            path.write_bytes(STATE[:-1])
        case "refuse":
            store.refuses_fetch = lambda key: key == training.key
    assert supervisor(replace(bench, artifacts=store)).run_one()
    job = bench.job(job_id)
    assert (job.state, job.attempts, epochs(bench, job_id)) == (JobState.SUCCEEDED, 2, [1, 2, 2])
    assert option(seen_in(bench, job_id, 1)["argv"], "--training") is None


@pytest.mark.parametrize("lie", ["elsewhere", "link", "wrong-step"])
def test_a_state_that_is_none_is_a_crash_and_nothing_is_stored(make_bench: MakeBench, lie: str) -> None:
    bench = make_bench("training-lie", lie, failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.ENGINE_ERROR)
    assert job.training is None
    assert not [found for found in bench.artifacts.list(f"jobs/{job_id}") if "training" in found.key]


def test_a_state_that_a_newer_one_has_replaced_is_passed_over(make_bench: MakeBench) -> None:
    """The engine keeps one; it may have gone on before its word is heard."""
    bench = make_bench("training-lie", "missing", failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.training) == (JobState.SUCCEEDED, None)
    assert not [found for found in bench.artifacts.list(f"jobs/{job_id}") if "training" in found.key]
