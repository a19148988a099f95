"""Every attempt leaves its log, however it ends: complete, its own, and there while the job still runs."""

import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import update

from api_schemas.enums import JobState
from store.database.clock import now
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import logs, transitions
from store.jobs.transitions import Lease, LeaseLost
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    MakeBench,
    attempts_with_a_log,
    finish,
    in_background,
    log_of,
    pids_in,
    supervisor,
)
from tests.support.servers.databases import wait_for

APART = "kept apart by environment, "
WHOLE = "begins at step 0\nstep 0 is written\nstep 1 is written\nstep 2 is written\n"


def engine_log(bench: Bench, job_id: str, attempt: int) -> str:
    """Without its first line, which says what keeps the engine apart."""
    first, _, rest = log_of(bench, job_id, attempt).partition("\n")
    assert first.startswith(APART)
    return rest


def test_the_log_of_a_job_that_succeeded_is_complete(make_bench: MakeBench) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()
    supervisor(bench).run_one()
    assert bench.job(job_id).state is JobState.SUCCEEDED
    assert engine_log(bench, job_id, 1) == WHOLE


def test_a_log_of_many_pieces_is_complete(make_bench: MakeBench) -> None:
    bench = make_bench("chatty")
    job_id = bench.submit()
    supervisor(bench).run_one()
    said = engine_log(bench, job_id, 1).splitlines()
    assert len(said) == 1 + 3 * 4001
    assert [line for line in said if line.startswith("step 2 line")] == [
        f"step 2 line {number} ü" for number in range(4000)
    ]


def test_a_log_beyond_its_bound_keeps_its_newest_part(make_bench: MakeBench) -> None:
    bench = make_bench("chatty", max_log_bytes=2**16)
    job_id = bench.submit()
    supervisor(bench).run_one()
    text = log_of(bench, job_id, 1)
    assert text.endswith("step 2 line 3998 ü\nstep 2 line 3999 ü\n")
    # Whole pieces are dropped: there may be one piece more than the bound.
    assert 2**15 < len(text.encode()) <= 2 * 2**16
    assert "begins" not in text


@pytest.mark.parametrize("code", ["labels_mismatch", "engine_error"])
def test_the_log_of_a_job_that_failed_is_complete(make_bench: MakeBench, code: str) -> None:
    bench = make_bench("fail", code, failure_cap=1)
    job_id = bench.submit()
    supervisor(bench).run_one()
    assert bench.job(job_id).state is JobState.FAILED
    assert engine_log(bench, job_id, 1) == "begins at step 0\n"


def test_each_attempt_has_a_log_of_its_own_also_after_a_crash(make_bench: MakeBench) -> None:
    bench = make_bench("crash")
    job_id = bench.submit()
    assert supervisor(bench).run_until_empty() == 2
    assert attempts_with_a_log(bench, job_id) == [1, 2]
    assert engine_log(bench, job_id, 1) == "begins at step 0\nstep 0 is written\nsomething went wrong here\n"
    assert engine_log(bench, job_id, 2) == "begins at step 1\nstep 1 is written\nstep 2 is written\n"


def test_the_log_of_a_cancelled_job_is_complete(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids")
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    finish(thread)
    assert bench.job(job_id).state is JobState.CANCELLED
    assert engine_log(bench, job_id, 1) == "begins at step 0\nstep 0 is written\nnothing more will be said\n"


def test_the_log_of_a_job_that_runs_is_there_within_heartbeats(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench("stuck", marker=tmp_path / "pids", heartbeat_seconds=0.5)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    wait_for(lambda: "nothing more" in log_of(bench, job_id, 1), 3, "the log")
    assert bench.job(job_id).state is JobState.RUNNING
    os.kill(pids_in(tmp_path / "pids")[0], signal.SIGKILL)
    finish(thread)


def test_a_worker_that_lost_its_job_adds_nothing_to_its_log(make_bench: MakeBench, tmp_path: Path) -> None:
    """Its first heartbeat would bring what the engine has written by then; the job is taken over before it."""
    bench = make_bench("stuck", marker=tmp_path / "pids", lease_seconds=60, heartbeat_seconds=30)
    job_id = bench.submit()
    thread = in_background(bench)
    wait_for((tmp_path / "pids").exists, what="the engine's hang")
    with bench.database.write() as session:
        session.execute(update(Job).values(lease_until=now(plus=-1)))
        assert transitions.claim(session, "other", 60, 3) is not None
    before = log_of(bench, job_id, 1)
    finish(thread)
    assert log_of(bench, job_id, 1) == before
    with bench.database.write() as session, pytest.raises(LeaseLost):
        logs.append(session, Lease(job_id, 1), 10_000, "late", 2**16)
    with bench.database.write() as session:
        logs.append(session, Lease(job_id, 2), 0, "the other's", 2**16)
    assert log_of(bench, job_id, 2) == "the other's"
