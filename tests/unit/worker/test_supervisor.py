"""The supervisor with an engine that finishes, crashes, hangs, lies: one end for each, and nothing left behind."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api_schemas.enums import JobState, Phase
from api_schemas.errors import ErrorCode
from api_schemas.results.events import Failed
from store.database.clock import now
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from tests.support.jobs.bench import FILES, Bench
from tests.support.jobs.supervision import (
    Clock,
    MakeBench,
    finish,
    in_background,
    let_a_lease_pass,
    option,
    pids_in,
    seen_in,
    states,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone
from worker.supervisor.scratch import Scratch


def test_a_job_runs_to_its_end(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.error, job.failures, job.last_step) == (JobState.SUCCEEDED, None, 0, 2)
    assert job.data is not None
    assert job.data.labels == ("a", "b")
    with bench.database.read() as session:
        steps = jobs.steps(session, DEFAULT_TENANT, job_id)
        types = [event.body.type for event in jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 100)]
    assert [(step.step, step.downloadable) for step in steps] == [(0, False), (1, True), (2, True)]
    assert [file.name for file in steps[1].files] == ["figures/widths.svg", "model.safetensors", "pruning.json"]
    for file in steps[2].files:
        assert file.key == f"jobs/{job_id}/epoch-1/step-2/{file.name}"
        assert bench.artifacts.size(file.key) == file.size
    step_events = ["phase", "step"] * 3
    assert types == ["state", "state", "phase", "started", "data", *step_events, "finished", "state"]


@pytest.mark.parametrize(("behaviour", "step", "stopped"), [("finish", 2, None), ("stopped", 1, "max_drop")])
def test_what_the_job_comes_to_is_kept(make_bench: MakeBench, behaviour: str, step: int, stopped: str | None) -> None:
    bench = make_bench(behaviour)
    job_id = bench.submit()
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    assert (job.result.step, job.result.stopped) == (step, stopped)
    assert job.result.test is not None
    assert job.result.test.accuracy == 0.8
    assert bench.steps(job_id) == [0, 1, 2]


def test_jobs_run_one_after_the_other_until_none_is_left(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    submitted = [bench.submit(), bench.submit()]
    assert supervisor(bench).run_until_empty() == 2
    assert {bench.job(job_id).state for job_id in submitted} == {JobState.SUCCEEDED}


def test_an_engine_finds_what_earlier_ones_of_its_tenant_have_left(make_bench: MakeBench) -> None:
    bench = make_bench("share")
    submitted = [bench.submit(seed=seed) for seed in (1, 2)]
    assert supervisor(bench).run_until_empty() == 2
    assert [seen_in(bench, job_id, 0)["cache"] for job_id in submitted] == [[], [f"scores-{1:032x}"]]
    another = make_bench("share", shared_bytes=0)
    submitted = [another.submit(seed=seed) for seed in (1, 2)]
    assert supervisor(another).run_until_empty() == 2
    assert [seen_in(another, job_id, 0)["cache"] for job_id in submitted] == [[], []]


def test_the_engine_sees_its_inputs_and_no_secret(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    for name in ("AWS_SECRET_ACCESS_KEY", "SECATEUR_DATABASE_URL", "HF_TOKEN", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    supervisor(bench).run_one()
    with bench.database.read() as session:
        [file] = [file for file in jobs.steps(session, DEFAULT_TENANT, job_id)[0].files if file.name == "pruning.json"]
    seen = json.loads(b"".join(bench.artifacts.read(file.key)))["seen"]
    assert not {"AWS_SECRET_ACCESS_KEY", "SECATEUR_DATABASE_URL", "HF_TOKEN", "PGPASSWORD"} & set(seen["environment"])
    assert {"HF_HUB_OFFLINE", "OMP_NUM_THREADS"} <= set(seen["environment"])
    assert sorted(Path(path).name for path in seen["data"]) == sorted(FILES["dataset"])


def test_without_a_setting_the_engine_gets_what_the_workers_environment_says(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    bench = make_bench("finish", engine_threads=None)
    job_id = bench.submit()
    supervisor(bench).run_one()
    with bench.database.read() as session:
        [file] = [file for file in jobs.steps(session, DEFAULT_TENANT, job_id)[0].files if file.name == "pruning.json"]
    seen = json.loads(b"".join(bench.artifacts.read(file.key)))["seen"]
    assert seen["argv"][seen["argv"].index("--threads") + 1] == "3"
    assert {seen["environment"][f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"3"}


def test_an_engine_that_goes_on_gets_as_many_threads_as_the_one_before_it_had(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("store.machine.affine_cores", lambda: 4)
    monkeypatch.setattr("store.machine.cpu_quota", lambda: None)
    monkeypatch.setattr("store.machine.engines_running", lambda: 1)  # other tests may run engines at the moment
    bench = make_bench("crash-once", marker=tmp_path / "marker", engine_threads=None)
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 2
    # The fake engine says that it has one, whatever it was given.
    argv = [seen_in(bench, job_id, step)["argv"] for step in (0, 2)]
    assert [option(each, "--threads") for each in argv] == ["4", "1"]


def test_an_engine_that_crashes_is_tried_up_to_the_cap(make_bench: MakeBench) -> None:
    bench = make_bench("fail", "engine_error")
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 3
    job = bench.job(job_id)
    assert (job.state, job.failures) == (JobState.FAILED, 3)
    assert job.error is not None
    assert job.error.code is ErrorCode.ENGINE_ERROR
    assert states(bench, job_id) == ["queued", "running"] * 3 + ["failed"]


def test_the_end_of_the_log_is_in_the_error(make_bench: MakeBench) -> None:
    bench = make_bench("crash", failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_until_empty()
    job = bench.job(job_id)
    assert job.error is not None
    assert job.error.code is ErrorCode.ENGINE_CRASHED
    assert "status 3" in job.error.detail
    assert "something went wrong here" in job.error.detail
    assert bench.steps(job_id) == [0]


def test_a_killed_engine_goes_on_after_its_last_committed_step(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("crash-once", marker=tmp_path / "marker")
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 2
    job = bench.job(job_id)
    assert (job.state, job.failures, job.attempts) == (JobState.SUCCEEDED, 0, 2)
    with bench.database.read() as session:
        steps = jobs.steps(session, DEFAULT_TENANT, job_id)
    assert [step.step for step in steps] == [0, 1, 2]
    assert steps[0].epoch == 1
    assert steps[2].epoch == 2


@pytest.mark.parametrize("code", ["labels_mismatch", "audio_undecodable", "sparsity_out_of_reach", "numerical_failure"])
def test_an_error_that_would_come_again_ends_the_job_at_once(make_bench: MakeBench, code: str) -> None:
    bench = make_bench("fail", code)
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code.value) == (JobState.FAILED, code)
    with bench.database.read() as session:
        [event] = [
            e.body for e in jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 100) if isinstance(e.body, Failed)
        ]
    assert event.traceback is None


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("nan", ErrorCode.ENGINE_ERROR),
        ("empty", ErrorCode.ENGINE_ERROR),
        ("again", ErrorCode.ENGINE_ERROR),
        ("lost", ErrorCode.ENGINE_ERROR),
        ("quiet", ErrorCode.ENGINE_CRASHED),
    ],
)
def test_an_engine_that_breaks_its_interface_is_a_crash(make_bench: MakeBench, behaviour: str, code: ErrorCode) -> None:
    bench = make_bench(behaviour, failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_until_empty()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, code)
    assert bench.steps(job_id) == {"again": [0, 1], "lost": [0, 1, 2]}.get(behaviour, [0])
    assert bench.job(job_id).result is None


def test_what_a_library_prints_is_no_event(make_bench: MakeBench) -> None:
    bench = make_bench("noise")
    job_id = bench.submit()
    supervisor(bench).run_until_empty()
    assert bench.job(job_id).state is JobState.SUCCEEDED


def test_cancel_ends_an_engine_that_ignores_term_with_all_it_started(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    wait_for(lambda: bench.steps(job_id) == [0])
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    finish(thread)
    pids = pids_in(tmp_path / "pids")
    wait_for(lambda: all(map(gone, pids)), what="the end of the process group")
    assert states(bench, job_id) == ["queued", "running", "cancelling", "cancelled"]
    assert bench.steps(job_id) == [0]


def test_progress_is_shown_while_the_engine_runs(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.job(job_id).progress, what="progress")
    job = bench.job(job_id)
    assert job.progress is not None
    assert (job.progress.phase, job.progress.done, job.progress.total) == (Phase.EVALUATING, 1, 2)
    (tmp_path / "go").touch()
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.progress) == (JobState.SUCCEEDED, None)


def test_a_lease_is_kept_for_longer_than_its_length(make_bench: MakeBench, clock: Clock, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go", heartbeat_seconds=0.1)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0])
    let_a_lease_pass(bench, job_id, clock)
    with bench.database.write() as session:
        assert transitions.claim(session, "b", 60, 3) is None
    (tmp_path / "go").touch()
    finish(thread)
    assert (bench.job(job_id).state, bench.job(job_id).attempts) == (JobState.SUCCEEDED, 1)


def test_a_worker_that_lost_its_job_kills_its_engine_and_writes_nothing(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    with bench.database.write() as session:
        session.execute(update(Job).values(lease_until=now(plus=-1)))
        other = transitions.claim(session, "other", 60, 3)
    assert other is not None
    finish(thread)
    pids = pids_in(tmp_path / "pids")
    wait_for(lambda: all(map(gone, pids)), what="the engine's end")
    job = bench.job(job_id)
    assert (job.state, job.epoch, job.worker) == (JobState.RUNNING, 2, "other")
    assert states(bench, job_id) == ["queued", "running", "running"]


def test_a_worker_that_cannot_reach_the_database_kills_its_engine_before_the_lease_ends(
    make_bench: MakeBench, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    bench = make_bench("stuck", marker=tmp_path / "pids", lease_seconds=60)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")

    def unreachable(*_: Any, **__: Any) -> JobState:
        raise OperationalError("UPDATE", {}, Exception("connection refused"))

    monkeypatch.setattr(transitions, "renew", unreachable)
    clock.forward(60)
    finish(thread)
    pids = pids_in(tmp_path / "pids")
    wait_for(lambda: all(map(gone, pids)), what="the engine's end")
    job = bench.job(job_id)
    assert (job.state, job.epoch) == (JobState.RUNNING, 1)
    assert states(bench, job_id) == ["queued", "running"]


def test_shutdown_hands_the_job_back_without_a_failure(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    shutdown = threading.Event()
    thread = in_background(bench, shutdown)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    shutdown.set()
    finish(thread)
    pids = pids_in(tmp_path / "pids")
    wait_for(lambda: all(map(gone, pids)), what="the engine's end")
    job = bench.job(job_id)
    assert (job.state, job.failures, job.lease_until) == (JobState.QUEUED, 0, None)
    assert supervisor(bench, shutdown).run_until_empty() == 0


def test_a_cancel_that_comes_before_the_last_write_wins(make_bench: MakeBench, tmp_path: Path) -> None:
    """Heartbeats are too rare here to notice: the refused write of the next step is what tells."""
    bench = make_bench("wait", marker=tmp_path / "go", lease_seconds=60, heartbeat_seconds=30)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for(lambda: bench.steps(job_id) == [0])
    wait_for(lambda: bench.job(job_id).progress)
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    (tmp_path / "go").touch()
    finish(thread)
    assert bench.job(job_id).state is JobState.CANCELLED
    assert bench.steps(job_id) == [0]


@pytest.mark.parametrize("harm", ["remove", "change"])
def test_an_input_that_was_lost_ends_the_job(make_bench: MakeBench, tmp_path: Path, harm: str) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    [path] = tmp_path.glob("artifacts/uploads/*/1/model.safetensors")
    path.unlink() if harm == "remove" else path.write_bytes(b"other")
    assert supervisor(bench).run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.INPUT_LOST)


def test_an_engine_that_cannot_be_started_is_a_crash_with_no_secret_in_it(make_bench: MakeBench) -> None:
    bench = make_bench("finish", failure_cap=1)
    broken = Bench(
        bench.settings.model_copy(update={"engine_command": ("/nowhere/engine",)}), bench.database, bench.artifacts
    )
    job_id = bench.submit()
    supervisor(broken).run_until_empty()
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.FAILED, ErrorCode.INTERNAL)
    assert "nowhere" not in job.error.detail


def test_a_step_of_another_claim_is_staged_apart(make_bench: MakeBench) -> None:
    bench = make_bench("crash", failure_cap=5)
    job_id = bench.submit()
    assert supervisor(bench).run_one()
    with bench.database.write() as session:
        job = transitions.claim(session, "b", 60, 5)
        assert job is not None
        transitions.release(session, Lease(job.id, job.epoch))
    assert [found.key for found in bench.artifacts.list(f"jobs/{job_id}")] == [
        f"jobs/{job_id}/epoch-1/step-0/pruning.json"
    ]


def test_folders_of_dead_workers_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    living = Scratch(tmp_path)
    dead = Scratch(tmp_path)
    (dead.folder / "job_1").mkdir()
    os.close(dead._lock)
    newest = Scratch(tmp_path)
    assert living.folder.exists()
    assert newest.folder.exists()
    assert sorted(path.name for path in dead.folder.iterdir()) == ["lock", "name"]  # until its jobs are handed back
    newest.forget()
    assert not dead.folder.exists()
    living.close()
    newest.close()
    assert list(tmp_path.iterdir()) == []
