"""Engines that are forked from a template process: jobs end as they do with engines that are programs of their own."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from api_schemas.enums import JobState, Phase
from api_schemas.results.events import PhaseChanged
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from tests.support.jobs.supervision import (
    MakeBench,
    events,
    finish,
    fork_fake_engines,
    in_background,
    log_of,
    pids_in,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone
from worker.supervisor import engines


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_fake_engines(monkeypatch)


def templates() -> list[psutil.Process]:
    """Those of this process that live."""
    living = [child for child in psutil.Process().children() if not gone(child.pid)]
    return [child for child in living if "worker.children.fork_server" in child.cmdline()]


def test_jobs_run_one_after_the_other_from_one_template(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    first, second = bench.submit(), bench.submit()
    runner = supervisor(bench)
    assert runner.run_until_empty() == 2
    [template] = templates()
    runner.close()
    assert gone(template.pid)
    assert [bench.job(job_id).state for job_id in (first, second)] == [JobState.SUCCEEDED] * 2
    assert "kept apart by" in log_of(bench, first, 1)


def test_an_engine_that_crashes_is_followed_by_another(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("crash-once", marker=tmp_path / "crashed")
    job_id = bench.submit()
    runner = supervisor(bench)
    assert runner.run_until_empty() == 2
    runner.close()
    job = bench.job(job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 2)
    assert bench.steps(job_id) == [0, 1, 2]


def test_cancelling_ends_an_engine_that_ignores_it_and_what_it_started(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    runner = supervisor(bench)
    thread = in_background(bench, runner=runner)
    wait_for((tmp_path / "pids").exists)
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    finish(thread)
    runner.close()
    assert bench.job(job_id).state is JobState.CANCELLED
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pids"))))


def test_what_a_dead_engine_left_running_is_ended(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("orphan", marker=tmp_path / "pid", failure_cap=1)
    job_id = bench.submit()
    runner = supervisor(bench)
    runner.run_one()
    runner.close()
    assert bench.job(job_id).state is JobState.FAILED
    wait_for(lambda: all(map(gone, pids_in(tmp_path / "pid"))))


def test_a_template_that_is_killed_costs_the_job_an_attempt(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("wait", marker=tmp_path / "go")
    job_id = bench.submit()
    runner = supervisor(bench)
    thread = in_background(bench, runner=runner)
    wait_for(lambda: bench.steps(job_id) == [0])
    [template] = templates()
    os.kill(template.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    finish(thread)
    runner.run_until_empty()
    runner.close()
    job = bench.job(job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 2)


def test_without_a_template_the_engine_is_a_program(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "WARM", "tests.support.jobs.threaded_module")
    bench = make_bench("finish")
    job_id = bench.submit()
    runner = supervisor(bench)
    runner.run_one()
    runner.close()
    assert bench.job(job_id).state is JobState.SUCCEEDED
    assert "without the template process" in caplog.text


def test_a_jobs_home_gets_the_list_of_fonts_that_the_worker_made_once(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = "import os, pathlib; place = pathlib.Path(os.environ['XDG_CACHE_HOME'], 'matplotlib'); place.mkdir(parents=True);"
    monkeypatch.setattr(engines, "_FONTS", f"{made} (place / 'fontlist.json').write_text('fonts')")
    (tmp_path / "worker").mkdir()
    starter = engines.Engines(make_bench("finish").settings, tmp_path / "worker")
    starter.warm_up()

    def furnished() -> bool:
        starter.furnish(tmp_path / "home")
        return (tmp_path / "home" / "cache" / "matplotlib" / "fontlist.json").exists()

    wait_for(furnished)
    starter.close()


def test_starting_is_a_phase_and_its_time_is_told_with_the_first_step(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    runner = supervisor(bench)
    runner.run_one()
    runner.close()
    phases = [body for body in events(bench, job_id) if isinstance(body, PhaseChanged)]
    assert (phases[0].phase, phases[0].step, phases[0].steps) == (Phase.STARTING, 0, 2)
    with bench.database.read() as session:
        seconds = [step.metrics.seconds for step in jobs.steps(session, DEFAULT_TENANT, job_id)]
    assert seconds[0]["starting"] > 0
    assert not any("starting" in each for each in seconds[1:])
