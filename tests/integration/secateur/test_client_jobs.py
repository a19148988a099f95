"""Jobs that are waited for, watched and downloaded, with a worker by hand behind a real service."""

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode, ErrorItem
from secateur import Progress, errors
from tests.integration.secateur.conftest import Connect
from tests.support.jobs.manual_worker import ManualWorker
from tests.support.servers.cutting_proxy import cutting_proxy
from tests.support.servers.databases import wait_for

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20_000}


def test_wait_returns_with_the_result_which_is_downloaded(running: Any, worker: ManualWorker, tmp_path: Path) -> None:
    def work() -> None:
        for step in range(3):
            worker.commit(step, FILES)
        worker.succeed(2)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait().state == "succeeded"
    thread.join()
    assert [step.step for step in running.metrics] == [0, 1, 2]
    assert [checkpoint.step for checkpoint in running.checkpoints] == [1, 2]
    told: list[Progress] = []
    folder = running.download(tmp_path / "pruned", progress=told.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert (told[-1].phase, told[-1].fraction, told[-1].unit) == ("downloading", 1.0, "bytes")
    assert (running.checkpoint().step, running.checkpoint(1).step) == (2, 1)
    first = running.checkpoints[0]
    assert first.download(tmp_path / "first") == tmp_path / "first"
    assert (first.reference.job, first.reference.step) == (running.id, 1)
    with pytest.raises(errors.NotFound) as caught:
        running.download(tmp_path / "none", step=3)
    assert caught.value.code == "no_checkpoint"
    assert "Recommended: step 2" in running._repr_html_()


def test_progress_is_told_while_it_is_waited_for(running: Any, worker: ManualWorker) -> None:
    assert running.progress is None
    said = JobProgress(phase=Phase.FINETUNING, step=1, steps=2, done=1, total=4, fraction=0.25, eta_seconds=9.0)
    worker.say(said)
    assert running.refresh().progress == said
    worker.say(said.model_copy(update={"done": 3, "fraction": 0.75}))
    told: list[Progress] = []

    def end_when_it_was_told() -> None:
        wait_for(lambda: bool(told), what="progress")
        worker.commit(0, {})
        worker.succeed(0)

    thread = threading.Thread(target=end_when_it_was_told)
    thread.start()
    running.wait(progress=told.append)
    thread.join()
    assert [(each.phase, each.fraction) for each in told] == [("finetuning", 0.75), ("succeeded", 1.0)]


def test_a_job_whose_result_is_the_original_has_nothing_to_download(
    running: Any, worker: ManualWorker, tmp_path: Path
) -> None:
    worker.commit(0, {})
    with pytest.raises(errors.NotFound, match="no checkpoint yet"):
        running.download(tmp_path / "pruned")
    worker.commit(1, FILES)
    worker.succeed(0)
    with pytest.raises(errors.NotFound, match="step 0, the original"):
        running.download(tmp_path / "pruned")


def test_a_job_without_a_result_gives_a_step_only_to_who_asks_for_one(
    running: Any, worker: ManualWorker, tmp_path: Path
) -> None:
    worker.commit(0, {})
    worker.commit(1, FILES)
    for refused in (running.checkpoint, lambda: running.download(tmp_path / "pruned")):
        with pytest.raises(errors.Conflict, match=r"is running and has no result; finished steps: 1\. Wait") as caught:
            refused()
        assert caught.value.code == "no_result"
    assert not (tmp_path / "pruned").exists()
    assert running.download(tmp_path / "so-far", partial=True).is_dir()
    assert running.checkpoint(1).step == running.checkpoint(partial=True).step == 1
    worker.fail(JobError(code=ErrorCode.NUMERICAL, detail="A loss became infinite.", errors=()))
    with pytest.raises(errors.Conflict, match=r"ended as failed and has no result; .* Name a step, or"):
        running.download(tmp_path / "pruned")
    assert running.download(tmp_path / "pruned", partial=True).is_dir()


@pytest.mark.parametrize(
    ("code", "kind"), [(ErrorCode.NUMERICAL, errors.JobFailed), (ErrorCode.MAX_RUNTIME, errors.JobTimedOut)]
)
def test_a_job_that_fails_raises_its_own_error(
    running: Any, worker: ManualWorker, code: ErrorCode, kind: type[errors.JobFailed]
) -> None:
    item = ErrorItem(pointer="/finetune/learning_rate", code=code, detail="too high")
    worker.fail(JobError(code=code, detail="A loss became infinite.", errors=(item,)))
    with pytest.raises(
        errors.JobFailed, match=r"A loss became infinite\.\n  /finetune/learning_rate: too high"
    ) as caught:
        running.wait()
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.job.id) == (code.value, running.id)


def test_waiting_has_an_end_and_the_job_goes_on(running: Any) -> None:
    with pytest.raises(errors.WaitTimeout, match=r"has not ended after 0\.2 s") as caught:
        running.wait(timeout=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert running.refresh().state == "running"


def test_events_come_once_and_in_order_over_broken_connections(
    connect: Connect, url: str, running: Any, worker: ManualWorker
) -> None:
    naps: list[float] = []
    with cutting_proxy(httpx.URL(url).port or 0, after=10_000, times=3, answers=True) as proxy:
        job = connect(f"http://127.0.0.1:{proxy.port}", naps=naps).job(running.id)
        events = job.events(after=1)
        seen = [next(events)]
        worker.warn(400)
        worker.commit(0, {})
        worker.succeed(0)
        seen += events
        assert proxy.cuts == 3
    assert [event.seq for event in seen] == list(range(2, 2 + len(seen)))
    assert seen[-1].body.state == "succeeded"
    assert sum(event.body.type == "warning" for event in seen) == 400
    assert naps


def test_the_log_is_followed_to_the_end_of_the_job(running: Any, worker: ManualWorker) -> None:
    worker.log(0, "one\ntwo\nthr")
    assert list(running.logs()) == ["one", "two", "thr"]
    lines = running.logs(follow=True)
    assert [next(lines), next(lines)] == ["one", "two"]
    worker.log(11, "ee\nfour\n")
    worker.commit(0, {})
    worker.succeed(0)
    assert list(lines) == ["three", "four"]
    assert next(iter(running.logs(attempt=1))) == "one"


def test_a_download_goes_on_where_it_broke_off(
    connect: Connect, url: str, running: Any, worker: ManualWorker, tmp_path: Path
) -> None:
    worker.commit(0, {})
    worker.commit(1, FILES)
    worker.succeed(1)
    size = sum(map(len, FILES.values()))

    def kept(cuts: int) -> bool:
        """Three quarters of what was sent before so many cuts."""
        return sum(path.stat().st_size for path in (tmp_path / "pruned").glob("*")) >= cuts * 1_500_000

    with cutting_proxy(httpx.URL(url).port or 0, after=2_000_000, times=2, answers=True, ready=kept) as proxy:
        naps: list[float] = []
        job = connect(f"http://127.0.0.1:{proxy.port}", naps=naps).job(running.id)
        folder = job.download(tmp_path / "pruned")
        assert (proxy.cuts, len(naps)) == (2, 2)
        # Of what was in flight when it broke, some is lost; the rest is not sent again.
        assert proxy.answered < 1.5 * size
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    connect: Connect, url: str, running: Any, worker: ManualWorker, tmp_path: Path
) -> None:
    worker.commit(0, {})
    worker.commit(1, FILES)
    worker.succeed(1)
    folder = tmp_path / "pruned"
    with cutting_proxy(httpx.URL(url).port or 0, after=3_000_000, times=1, answers=True) as proxy:
        job = connect(f"http://127.0.0.1:{proxy.port}", max_retries=0).job(running.id)
        with pytest.raises(errors.ConnectionFailed):
            job.download(folder)
    # Not even what had come whole has its name yet.
    assert {path.suffix for path in folder.iterdir()} == {".part"}
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) < len(FILES["model.safetensors"])
    with cutting_proxy(httpx.URL(url).port or 0, after=1, times=0) as proxy:
        job = connect(f"http://127.0.0.1:{proxy.port}").job(running.id)
        job.download(folder)
        fetched = proxy.answered
        job.download(folder)
        assert proxy.answered - fetched < 20_000, "what was there was fetched again"
    assert fetched < len(FILES["model.safetensors"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_a_part_of_something_else_is_fetched_anew(running: Any, worker: ManualWorker, tmp_path: Path) -> None:
    worker.commit(0, {})
    worker.commit(1, FILES)
    worker.succeed(1)
    folder = running.download(tmp_path / "pruned")
    for number, entry in enumerate(running.checkpoints[0].view.files):
        (folder / entry.name).write_bytes(b"x")
        (folder / f".{number}-{entry.sha256[:32]}.part").write_bytes(b"y" * 100 * (number + 1))
    running.download(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_bytes_that_are_not_those_announced_are_not_kept(
    running: Any, worker: ManualWorker, tmp_path: Path, settings: Any
) -> None:
    worker.commit(0, {})
    worker.commit(1, FILES)
    stored = settings.data_dir / "artifacts" / worker.key(1, "model.safetensors")
    stored.write_bytes(FILES["model.safetensors"][:-1] + b"?")
    worker.succeed(1)
    folder = tmp_path / "pruned"
    with pytest.raises(errors.ChecksumMismatch, match=r"model\.safetensors"):
        running.download(folder)
    assert not (folder / "model.safetensors").exists()
    assert not list(folder.glob(".1-*"))


def test_past_events_end_where_the_job_stands(running: Any, worker: ManualWorker) -> None:
    worker.warn(120)
    known = list(running.events(follow=False))
    assert [event.seq for event in known] == list(range(1, len(known) + 1))
    assert sum(event.body.type == "warning" for event in known) == 120
    assert [event.seq for event in running.events(after=known[-2].seq, follow=False)] == [known[-1].seq]


def test_one_key_of_the_users_makes_one_job(client: Any, pair: tuple[str, str]) -> None:
    job, again = (client.submit(*pair, sparsity=0.5, idempotency_key="nightly 7") for _ in range(2))
    assert job.id == again.id
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit(*pair, sparsity=0.25, idempotency_key="nightly 7")
    assert caught.value.code == "idempotency_mismatch"
    job.cancel()
