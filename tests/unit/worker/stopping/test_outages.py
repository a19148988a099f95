"""The artifact store is away, full or refuses, or the scratch disk is full: short outages are waited out, long ones told."""

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import obstore
import pytest
from obstore.exceptions import GenericError

from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from api_schemas.results.events import StepDone, Warned
from store.database.tenancy import DEFAULT_TENANT
from store.files.artifacts import Artifacts
from store.jobs import transitions
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import (
    Clock,
    MakeBench,
    epochs,
    events,
    finish,
    in_background,
    let_a_lease_pass,
    states,
    supervisor,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.storage import Flaky, bucket_at, fill, refusing_bucket, small_disk

FULL = "Generic LocalFileSystem error: Unable to copy data to file: No space left on device (os error 28)"
QUOTA = "Generic LocalFileSystem error: Unable to copy data to file: Disk quota exceeded (os error 122)"


def with_flaky(bench: Bench, code: ErrorCode = ErrorCode.STORAGE_FULL) -> tuple[Bench, Flaky]:
    store = Flaky(bench.settings.artifacts_url, code)
    return replace(bench, artifacts=store), store


def for_seconds(seconds: float) -> Callable[[str], bool]:
    """True from the first time it is asked, for so long."""
    until: list[float] = []

    def still(_: str) -> bool:
        if not until:
            until.append(time.monotonic() + seconds)
        return time.monotonic() < until[0]

    return still


def computed(bench: Bench, job_id: str) -> list[int]:
    return [event.metrics.step for event in events(bench, job_id) if isinstance(event, StepDone)]


def warned(bench: Bench, job_id: str) -> list[str]:
    return [event.code for event in events(bench, job_id) if isinstance(event, Warned)]


def test_a_step_outlives_an_outage_longer_than_a_lease(make_bench: MakeBench, clock: Clock) -> None:
    bench, store = with_flaky(make_bench("finish"))
    job_id = bench.submit()
    store.refuses_put = lambda _: True
    thread = in_background(bench)
    wait_for(lambda: store.refused, what="an outage")
    let_a_lease_pass(bench, job_id, clock)
    refused = len(store.refused)
    wait_for(lambda: len(store.refused) > refused, what="another try")
    store.refuses_put = lambda _: False
    finish(thread)
    job = bench.job(job_id)
    assert (job.state, job.attempts, job.failures) == (JobState.SUCCEEDED, 1, 0)
    assert (computed(bench, job_id), epochs(bench, job_id)) == ([0, 1, 2], [1, 1, 1])
    assert warned(bench, job_id) == []


@pytest.mark.parametrize("code", [ErrorCode.STORAGE_FULL, ErrorCode.STORAGE_UNAVAILABLE])
def test_a_store_that_stays_away_costs_the_job_only_at_the_cap(make_bench: MakeBench, code: ErrorCode) -> None:
    """The first file of the step is taken every time: what is half there must not be seen."""
    bench, store = with_flaky(make_bench("finish", storage_patience_seconds=0.3), code)
    job_id = bench.submit()
    store.refuses_put = lambda key: "step-1/" in key and not key.endswith(".svg")
    for failures in (1, 2):
        assert supervisor(bench).run_one()
        job = bench.job(job_id)
        assert (job.state, job.failures, job.error) == (JobState.QUEUED, failures, None)
        assert (bench.steps(job_id), computed(bench, job_id)) == ([0], [0])
    assert supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, code)
    assert bench.steps(job_id) == [0]
    assert warned(bench, job_id) == [code] * 3
    half = {found.key for found in bench.artifacts.list(f"jobs/{job_id}") if "step-1" in found.key}
    assert half == {f"jobs/{job_id}/epoch-{epoch}/step-1/figures/widths.svg" for epoch in (1, 2, 3)}


def test_a_job_goes_on_once_the_store_is_back(make_bench: MakeBench) -> None:
    bench, store = with_flaky(make_bench("finish", storage_patience_seconds=0.3))
    job_id = bench.submit()
    store.refuses_put = lambda key: "step-2/" in key
    assert supervisor(bench).run_one()
    store.refuses_put = lambda _: False
    assert supervisor(bench).run_one()
    assert (bench.job(job_id).state, epochs(bench, job_id)) == (JobState.SUCCEEDED, [1, 1, 2])


def test_a_cancel_does_not_wait_for_the_store(make_bench: MakeBench) -> None:
    bench, store = with_flaky(make_bench("finish"))
    job_id = bench.submit()
    store.refuses_put = lambda _: True
    thread = in_background(bench)
    wait_for(lambda: len(store.refused) > 1, what="an outage")
    with bench.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    finish(thread)
    assert (bench.job(job_id).state, bench.steps(job_id)) == (JobState.CANCELLED, [])


def test_inputs_are_waited_for_and_then_the_job_is_tried_again(make_bench: MakeBench) -> None:
    bench, store = with_flaky(make_bench("finish"), ErrorCode.STORAGE_UNAVAILABLE)
    job_id = bench.submit()
    store.refuses_fetch = for_seconds(0.5)
    assert supervisor(bench).run_one()
    assert store.refused
    assert (bench.job(job_id).state, bench.job(job_id).attempts) == (JobState.SUCCEEDED, 1)

    impatient = replace(bench, settings=bench.settings.model_copy(update={"storage_patience_seconds": 0}))
    job_id = bench.submit()
    store.refuses_fetch = lambda _: True
    assert supervisor(impatient).run_until_empty() == 3
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.STORAGE_UNAVAILABLE)
    assert states(bench, job_id) == ["queued", "running"] * 3 + ["failed"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (FULL, ErrorCode.STORAGE_FULL),
        ("Generic { source: Os { code: 28, kind: StorageFull } }", ErrorCode.STORAGE_FULL),
        (QUOTA, ErrorCode.STORAGE_FULL),
        ("Generic S3 error: error sending request", ErrorCode.STORAGE_UNAVAILABLE),
    ],
)
def test_what_the_store_says_becomes_a_code_and_names_no_place(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, text: str, code: ErrorCode
) -> None:
    bench = make_bench("finish", storage_patience_seconds=0, failure_cap=1)
    job_id = bench.submit()

    def refused(*_: Any, **__: Any) -> NoReturn:
        raise GenericError(f"{text} at http://secret.internal/bucket")

    monkeypatch.setattr(obstore, "put", refused)
    supervisor(bench).run_one()
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.state, job.error.code, bench.steps(job_id)) == (JobState.FAILED, code, [])
    assert "secret" not in job.error.detail


def test_a_disk_that_is_full_and_has_room_again_costs_nothing(make_bench: MakeBench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        bench = make_bench("finish", artifacts_url=(disk / "artifacts").as_uri())
        job_id = bench.submit()
        ballast = fill(disk)
        thread = in_background(bench)
        wait_for(lambda: bench.job(job_id).phase == "evaluating", what="the engine's first step")
        time.sleep(0.5)
        assert bench.steps(job_id) == []
        ballast.unlink()
        finish(thread)
        job = bench.job(job_id)
        assert (job.state, job.attempts, computed(bench, job_id)) == (JobState.SUCCEEDED, 1, [0, 1, 2])


def test_a_disk_that_stays_full_ends_the_job_and_shows_nothing_of_the_step(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        artifacts = (disk / "artifacts").as_uri()
        bench = make_bench("finish", artifacts_url=artifacts, storage_patience_seconds=0.3, failure_cap=1)
        job_id = bench.submit()
        fill(disk)
        supervisor(bench).run_one()
        job = bench.job(job_id)
        assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.STORAGE_FULL)
        assert list(bench.artifacts.list(f"jobs/{job_id}")) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_scratch_disk_is_the_workers_trouble_and_not_the_jobs(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bench = make_bench("finish")
    job_id = bench.submit()

    def full(*_: Any) -> NoReturn:
        raise OSError(number, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "fetch", full)
        assert supervisor(bench).run_one()
    job = bench.job(job_id)
    assert (job.state, job.failures, warned(bench, job_id)) == (JobState.QUEUED, 1, [ErrorCode.SCRATCH_FULL])
    assert supervisor(bench).run_one()
    assert bench.job(job_id).state is JobState.SUCCEEDED


def test_a_real_scratch_disk_that_is_full(make_bench: MakeBench, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        bench = make_bench("finish", scratch_dir=disk / "scratch", failure_cap=1)
        job_id = bench.submit()
        watched = supervisor(bench)
        fill(disk)
        watched.run_one()
        job = bench.job(job_id)
        assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.SCRATCH_FULL)
        assert list(disk.glob("scratch/worker-*/job_*")) == []


def test_a_bucket_that_refuses_is_a_store_that_is_away(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("finish", storage_patience_seconds=0, failure_cap=1)
    job_id = bench.submit()
    with refusing_bucket(monkeypatch) as url:
        supervisor(replace(bench, artifacts=Artifacts(url))).run_one()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.STORAGE_UNAVAILABLE)


@pytest.mark.slow
def test_a_bucket_that_nobody_serves_is_waited_for_under_a_lease_that_is_kept(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("finish", storage_patience_seconds=0, failure_cap=1, lease_seconds=8)
    job_id = bench.submit()
    supervisor(replace(bench, artifacts=Artifacts(bucket_at(1, monkeypatch)))).run_one()
    job = bench.job(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, ErrorCode.STORAGE_UNAVAILABLE)
    assert job.attempts == 1
