"""A job that nobody works on does not wait for the end of its lease: whoever knows hands it back before it claims anything."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api_schemas.api.resources import JobProgress
from api_schemas.enums import JobState, Phase
from api_schemas.errors import ErrorCode
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import transitions
from store.jobs.transitions import Lease, LeaseLost
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import Clock, MakeBench, finish, states, supervisor
from tests.support.servers.databases import StoppablePostgres, stoppable_postgres, wait_for
from tests.support.servers.processes import gone
from worker.children.job_log import JobLog
from worker.lease.heartbeat import Heartbeat, Reason
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

HOUR = 3600.0


def killed(bench: Bench, failures: int = 0, called: str | None = None) -> tuple[str, Lease]:
    """A worker that was killed under a job, whose lease has an hour to go: its name and its lease."""
    scratch = Scratch(bench.settings.scratch, called)
    lease = claimed(bench, scratch.name)
    for _ in range(failures):
        with bench.database.write() as session:
            assert transitions.hand_back(session, [scratch.name], 100) == 1
        lease = claimed(bench, scratch.name)
    os.close(scratch._lock)  # As the kernel does.
    return scratch.name, lease


def claimed(bench: Bench, worker: str) -> Lease:
    with bench.database.write() as session:
        job = transitions.claim(session, worker, HOUR, 3)
    assert job is not None
    return Lease(job.id, job.epoch)


def renew(bench: Bench, lease: Lease) -> None:
    with bench.database.write() as session:
        transitions.renew(session, lease, HOUR)


def folders(bench: Bench) -> set[str]:
    return {path.name for path in bench.settings.scratch.iterdir()}


def test_the_job_of_a_killed_worker_goes_on_with_the_next_worker_of_the_machine(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    killed(bench)
    [left] = folders(bench)
    assert supervisor(bench).run_until_empty() == 1
    assert states(bench, job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert left not in folders(bench)


def test_it_counts_as_an_unplanned_end_so_that_the_cap_holds(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    killed(bench)
    with bench.database.write() as session:
        transitions.pause(session, DEFAULT_TENANT, job_id)
    assert supervisor(bench).run_until_empty() == 0
    job = bench.job(job_id)
    assert (job.state, job.failures) == (JobState.PAUSED, 1)

    job_id = bench.submit()
    killed(bench, failures=2)
    assert supervisor(bench).run_until_empty() == 0
    job = bench.job(job_id)
    assert (job.state, job.failures, job.error and job.error.code) == (JobState.FAILED, 3, ErrorCode.ENGINE_CRASHED)


def test_a_worker_that_lives_keeps_its_job(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    bench.submit()
    living = Scratch(bench.settings.scratch)
    lease = claimed(bench, living.name)
    assert supervisor(bench).run_until_empty() == 0
    renew(bench, lease)
    living.close()


def test_one_that_is_only_taken_for_dead_loses_its_lease_and_harms_nothing(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    _, lease = killed(bench)
    assert supervisor(bench).run_until_empty() == 1
    with pytest.raises(LeaseLost):
        renew(bench, lease)
    assert bench.job(job_id).state is JobState.SUCCEEDED


def test_a_name_that_stays_does_without_the_folder(make_bench: MakeBench, tmp_path: Path) -> None:
    """As a pod that is replaced, on another machine: nothing of its predecessor is there but the name."""
    bench = make_bench("finish", worker_name="gpu-1")
    mine, others = bench.submit(), bench.submit()
    killed(bench, called="gpu-1")
    elsewhere = claimed(bench, f"gpu-10:{'0' * 12}:7")
    scratch = Scratch(tmp_path / "new", "gpu-1")
    runner = Supervisor(bench.settings, bench.database, bench.artifacts, scratch, threading.Event())
    assert runner.run_until_empty() == 1
    assert (bench.job(mine).state, bench.job(others).state) == (JobState.SUCCEEDED, JobState.RUNNING)
    renew(bench, elsewhere)


def test_a_name_that_two_have_at_once_hands_nothing_back(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench("finish", worker_name="gpu-1")
    bench.submit()
    living = Scratch(bench.settings.scratch, "gpu-1")
    lease = claimed(bench, living.name)
    second = Scratch(bench.settings.scratch, "gpu-1")
    assert Supervisor(bench.settings, bench.database, bench.artifacts, second, threading.Event()).run_one() is False
    renew(bench, lease)
    assert "another worker is also called gpu-1" in caplog.text
    living.close()
    second.close()


def test_what_still_works_in_the_folder_of_a_killed_worker_is_ended(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("finish")
    dead = Scratch(bench.settings.scratch)
    with dead.job("job_1") as folder:
        engine = psutil.Popen(["sleep", "1000"], cwd=folder, start_new_session=True)
        os.close(dead._lock)
        monkeypatch.setattr("worker.supervisor.scratch.ENGINE_SECONDS", 0.1)
        Scratch(bench.settings.scratch).close()
        wait_for(lambda: gone(engine.pid), what="the engine's end")
        assert engine.wait() < 0


# --- a lease that is lost ---


@pytest.fixture(scope="module")
def server() -> Iterator[StoppablePostgres]:
    with stoppable_postgres() as made:
        yield made


def test_after_a_database_that_stood_still_a_lost_job_is_queued_again_before_another_is_begun(
    make_bench: MakeBench, server: StoppablePostgres, clock: Clock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    marker = tmp_path / "go"
    bench = make_bench("wait", marker=marker, database_url=server.url, database_seconds=1)
    lost = bench.submit()
    runner = threading.Thread(target=supervisor(bench).run_until_empty, daemon=True)
    runner.start()
    wait_for(lambda: bench.steps(lost) == [0], what="the first step")
    urgent = bench.submit(priority=1)
    with server.frozen():
        wait_for(lambda: "could not be renewed" in caplog.text, what="a renewal without an answer")
        clock.forward(2 * bench.settings.lease_seconds)
        wait_for(lambda: no_engine(bench), what="the engine's end")
    wait_for(lambda: bench.steps(urgent) == [0], what="the other job")
    job = bench.job(lost)
    assert (job.state, job.failures, job.attempts) == (JobState.QUEUED, 0, 1)
    marker.touch()
    finish(runner)
    assert {bench.job(job_id).state for job_id in (lost, urgent)} == {JobState.SUCCEEDED}
    assert bench.job(lost).attempts == 2


def no_engine(bench: Bench) -> bool:
    """No process of this one works in a folder of the bench."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and bench.settings.scratch in Path(process.cwd()).parents:
                return False
        except (psutil.Error, OSError):
            continue
    return True


def test_a_renewal_that_comes_through_after_its_deadline_extends_nothing(
    make_bench: MakeBench, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("finish", heartbeat_seconds=10)
    job_id = bench.submit()
    lease = claimed(bench, "a")
    until = bench.job(job_id).lease_until
    renew_in_time = transitions.renew

    def late(*arguments: Any, **options: Any) -> JobState:
        state = renew_in_time(*arguments, **options)
        clock.forward(bench.settings.lease_seconds)
        return state

    monkeypatch.setattr(transitions, "renew", late)
    log = JobLog(bench.settings.max_log_bytes)
    with Heartbeat(bench.database, bench.settings, lease, threading.Event(), log, clock.monotonic()) as beat:
        beat.report(JobProgress(phase=Phase.SCORING, step=1, steps=2, done=1, total=2, fraction=0.5, eta_seconds=None))
        wait_for(lambda: beat.reason is Reason.LOST, what="the lease's end")
    assert beat.reason is Reason.LOST
    assert bench.job(job_id).lease_until == until


class Unsure(Database):
    """A database whose next commit is made and whose answer is lost."""

    loses = False

    @contextmanager
    def write(self, seconds: float | None = None) -> Iterator[Session]:
        with super().write(seconds) as session:
            yield session
        if self.loses:
            self.loses = False
            raise OperationalError("COMMIT", {}, Exception("the answer was lost"))


def test_a_claim_whose_answer_was_lost_leaves_no_job_with_nobody(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    unsure = Unsure(bench.settings.database_url)
    job_id = bench.submit()
    runner = supervisor(replace(bench, database=unsure))
    unsure.loses = True
    assert runner.run_until_empty() == 1
    job = bench.job(job_id)
    assert (job.state, job.failures, job.attempts) == (JobState.SUCCEEDED, 0, 2)
    unsure.close()


def test_what_a_worker_could_not_hand_back_itself_its_successor_does(make_bench: MakeBench) -> None:
    """It stops while the database does not answer; its folder says that something may be left."""
    bench = make_bench("finish")
    job_id = bench.submit()
    unsure, shutdown = Unsure(bench.settings.database_url), threading.Event()
    scratch = Scratch(bench.settings.scratch)
    runner = Supervisor(bench.settings, unsure, bench.artifacts, scratch, shutdown)
    unsure.loses = True
    shutdown.set()
    assert runner.run_one() is False
    scratch.close()
    assert bench.job(job_id).state is JobState.RUNNING
    assert supervisor(bench).run_until_empty() == 1
    assert bench.job(job_id).state is JobState.SUCCEEDED
    unsure.close()
