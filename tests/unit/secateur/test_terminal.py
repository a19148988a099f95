"""What the command line shows: words, tables for every width, errors, and how they end the program."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from api_schemas.api.resources import DatasetContents, DatasetResource, JobProgress, JobResource, Quota
from api_schemas.enums import JobState, StopReason, UploadState
from api_schemas.errors import ErrorItem
from api_schemas.results.estimate import FirstEstimate, JobEstimate
from api_schemas.results.metrics import JobResult, JobWarning, Scores, UnfinishedEpoch
from secateur import errors
from secateur.commands.shared.exit_status import Interrupted, exit_status_of, say
from secateur.commands.show import _used
from secateur.terminal.comparison import comparison, comparison_document, gain_text
from secateur.terminal.consoles import clean
from secateur.terminal.details import dataset_page, estimate_page, job_page
from secateur.terminal.formatting import ago, size, target
from secateur.terminal.listings import jobs_table
from secateur.terminal.progress_bars import where
from tests.support.jobs.records import job_request, step_metrics

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def job(letter: str = "a", **more: Any) -> JobResource:
    """A job that has succeeded with two steps."""
    steps = tuple(step_metrics(number) for number in range(3))
    worse = Scores(samples=10, cross_entropy=0.6, accuracy=0.85)
    values: dict[str, Any] = {
        "id": f"job_{letter * 26}",
        "name": None,
        "state": JobState.SUCCEEDED,
        "created_at": NOW,
        "started_at": NOW,
        "finished_at": NOW,
        "request": job_request(),
        "attempts": 1,
        "progress": None,
        "data": None,
        "metrics": (*steps[:2], steps[2].model_copy(update={"validation": worse})),
        "result": JobResult(step=1, stopped=StopReason.MAX_DROP, detail="Step 2 fell too far.", test=worse),
        "error": None,
    }
    return JobResource.model_validate(values | more)


def drawn(thing: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (timedelta(seconds=3), "just now"), (timedelta(minutes=2, seconds=50), "2 min ago"), (timedelta(hours=3), "3 h ago"),
        (timedelta(days=5), "5 d ago"), (timedelta(days=-2), "in 2 d"), (timedelta(seconds=-9), "in a minute"),
        (timedelta(days=400), "2025-10-18"),
    ],
)  # fmt: skip
def test_moments_are_told_from_now(passed: timedelta, text: str) -> None:
    assert ago(NOW - passed, NOW) == text


def test_sizes_targets_and_quotas() -> None:
    assert (size(12_345_678), size(999)) == ("12.3 MB", "999 bytes")
    assert target(
        job_request(pruning={"target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.255}}).pruning.target
    ) == ("attention 50%, feed-forward 25.5%")
    assert _used(Quota(limit=10**9, used=10**6), size) == "1.0 MB used, at most 1.0 GB"
    assert _used(Quota(limit=None, used=None)) == "no limit"


def test_signs_that_terminals_obey_are_left_out() -> None:
    assert clean("a\x1b[31mb\x07c\x9b0m\td\r\ne") == "a[31mbc0m\td\ne"


def test_what_is_wrong_with_labels_stands_on_the_page_of_a_dataset() -> None:
    warning = JobWarning(
        code="label_column", pointer="/contents/label_column", detail="The row train[1] has no\x1b label."
    )
    dataset = DatasetResource(
        id=f"dst_{'a' * 26}", name=None, state=UploadState.READY, created_at=NOW, files=(), warnings=(warning,)
    )
    said = drawn(dataset_page(dataset), 120)
    assert "warning: The row train[1] has no label. (/contents/label_column)" in said


def test_the_page_of_a_dataset_counts_its_classes() -> None:
    names = tuple(f"c{number:02}" for number in range(60))
    contents = DatasetContents(
        rows={"train": 1000, "test": 3},
        labels=names,
        multi_label=False,
        label_counts={"train": {name: 10 * place for place, name in enumerate(names)}, "test": {"c59": 3}},
        columns=("audio", "label"),
        input_column="audio",
        label_column="label",
        seconds=1.0,
        sampling_rates=(16000,),
    )
    dataset = DatasetResource(
        id=f"dst_{'a' * 26}", name=None, state=UploadState.READY, created_at=NOW, files=(), contents=contents
    )
    lines = drawn(dataset_page(dataset), 120).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("class"))
    assert lines[begin].split() == ["class", "train", "test"]
    assert [line.split() for line in lines[begin + 1 : begin + 3]] == [["c59", "590", "3"], ["c58", "580", "0"]]
    assert "and 10 more" in lines[begin + 51]


def test_where_a_job_is() -> None:
    at = JobProgress.model_validate(
        {"phase": "finetuning", "step": 2, "steps": 5, "done": 1, "total": 2, "fraction": 0.4, "eta_seconds": 75}
    )
    running = job(state=JobState.RUNNING, progress=at, result=None, finished_at=None)
    assert where(running) == "step 2/5 finetuning, 85.0% on validation, 1:15 left"
    training = UnfinishedEpoch(epoch=1, epochs=1, parts=9, points=(0.75, 0.5))
    running = running.model_copy(update={"progress": at.model_copy(update={"training": training})})
    assert where(running) == "step 2/5 finetuning, 85.0% on validation, training loss 0.500, 1:15 left"
    queued = job(state=JobState.QUEUED, metrics=(), queue_position=3)
    assert where(queued) == "queued, place 3"
    waits = queued.model_copy(update={"waiting_reason": "no worker is running"})
    assert where(waits) == "queued, place 3, no worker is running"


def test_a_finished_job_ends_with_its_answer() -> None:
    text = " ".join(drawn(job_page(job(), 120), 120).split())
    answer = "10.0% of the attention parameters removed: the same size, accuracy unchanged at 90.0% on validation."
    assert f"{answer} Recommended: step 1. Step 2 fell too far." in text
    assert f"{NOW.astimezone():%Y-%m-%d %H:%M %Z} (" in text


def test_what_is_better_than_the_original_is_a_gain() -> None:
    better = job().metrics[1].model_copy(update={"validation": Scores(samples=10, accuracy=0.908)})
    one = job(metrics=(job().metrics[0], better), result=None)
    assert "+0.8" in drawn(comparison([one], 120), 120)


@pytest.mark.parametrize("width", [1, 10, 40, 60, 80, 140, 200])
def test_tables_are_never_wider_than_the_terminal_and_keep_what_is_needed(width: int) -> None:
    two = [job("a"), job("b", name="a long name\x1b[2J of a job that goes on")]
    for thing in (comparison(two, width), jobs_table(two, width), job_page(two[1], width)):
        text = drawn(thing, width)
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text
    if width >= 60:
        assert two[0].id[:12] in drawn(jobs_table(two, width), width)
        words = drawn(comparison(two, width), width).split()
        assert (words.count("−5.0"), words.count("1*"), "85.0%" in words) == (2, 2, True)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_width_has_every_figure_with_its_name(width: int) -> None:
    two = [job("a", name="night"), job("b", name="other")]
    listed = " ".join(drawn(jobs_table(two, width), width).split())
    for said in ("state", "✓ succeeded", "night", "attention 50%", "validation", "accuracy 90.0%", "created"):
        assert said in listed
    assert (two[0].id in listed) is (width >= 100)
    for shown in ([two[0]], two):
        steps = drawn(comparison(shown, width), width)
        for said in ("removed", "accuracy", "validation", "test", "gain", "params", "FLOPs", "file", "speed-up"):
            assert said in steps
    assert f"{NOW.astimezone():%Y-%m-%d %H:%M %Z}" in drawn(job_page(two[0], width), width)


@pytest.mark.parametrize(
    ("name", "before", "after", "gain"),
    [
        ("accuracy", 0.9, 0.908, "+0.8"),
        ("accuracy", 0.9, 0.85, "−5.0"),
        ("accuracy", 0.9, 0.9, "+0.0"),
        ("word_error_rate", 0.2, 0.15, "+5.0"),
    ],
)
def test_a_gain_is_positive_where_the_step_is_better(name: str, before: float, after: float, gain: str) -> None:
    dense, step = step_metrics(0), step_metrics(1)
    first, second = (Scores.model_validate({"samples": 10, name: value}) for value in (before, after))
    dense, step = dense.model_copy(update={"validation": first}), step.model_copy(update={"validation": second})
    assert gain_text(step, dense) == gain


def test_a_comparison_for_programs_has_the_same_numbers() -> None:
    (one,) = (found.model_dump(mode="json") for found in comparison_document([job()]))
    assert (one["result_step"], [step["step"] for step in one["steps"]]) == (1, [0, 1, 2])
    assert [step["drop"] for step in one["steps"]] == [None, 0.0, pytest.approx(0.05)]
    assert one["steps"][1]["test"] == {"name": "accuracy", "value": 0.85, "higher_is_better": True}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConnectionFailed("x"), 1),
        (errors.Unavailable("x", status=503), 1),
        (errors.UnexpectedAnswer("x", status=200), 1),
        (errors.MissingDependency("x"), 1),
        (errors.ChecksumMismatch("x"), 1),
        (errors.InvalidRequest("x"), 2),
        (errors.NotFound("x"), 2),
        (errors.Unauthorized("x", status=401), 2),
        (errors.QuotaExceeded("x", status=429), 2),
        (errors.JobFailed("x", job=job()), 3),
        (errors.JobTimedOut("x", job=job()), 3),
        (errors.JobCancelled("x", job=job()), 4),
        (errors.WaitTimeout("x"), 5),
        (Interrupted("x"), 130),
    ],
)
def test_every_error_has_its_exit_status(error: errors.SecateurError, status: int) -> None:
    assert exit_status_of(error) == status
    console = Console(file=io.StringIO(), width=80)
    say(error, console, as_json=True)
    assert json.loads(console.file.getvalue())["error"]["exit_status"] == status  # type: ignore[attr-defined]


def test_errors_name_the_field_and_no_sign_that_terminals_obey() -> None:
    item = ErrorItem(pointer="/a/b", code="x", detail="too [bold]large[/]\x1b[2J")
    console = Console(file=io.StringIO(), width=20)
    say(errors.Unavailable("It broke.", status=500, items=(item,), request_id="req-1"), console, as_json=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[:2] == ["error: It broke.", "  /a/b: too [bold]large[/][2J"]
    assert "req-1" in text


def test_the_time_of_a_first_job_is_a_range_on_what_was_measured() -> None:
    def said(**first: Any) -> str:
        measured = {
            "seconds_range": (118.0, 371.0),
            "threads": 2,
            "device": "cpu",
            "measured_at": NOW,
            "device_name": None,
        }
        found = JobEstimate(
            steps=(),
            seconds=None,
            first_estimate=FirstEstimate.model_validate(measured | first),
            host_memory_bytes=None,
            device_memory_bytes=None,
            device=None,
            jobs_observed=0,
            reason="No job has finished.",
        )
        return "".join(drawn(each, 200) for each in estimate_page(found))

    one = said(device_name="A processor", threads=1)
    assert "about 2 to 6.2 minutes on this worker (A processor, 1 thread), from a short measurement" in one
    assert "No job has finished." in one
    assert "on this worker (cpu, 2 threads)" in said()
    assert "on this worker (A GPU), " in said(device="cuda", device_name="A\x1b GPU")
