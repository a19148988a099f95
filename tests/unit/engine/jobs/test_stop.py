"""The stop rule: a bound on the drop, met to the letter; the step that broke it is kept, and a resumed job agrees."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score

from api_schemas.enums import Split, StopReason
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import EngineEvent, Finished, StepDone
from api_schemas.results.metrics import JobResult, Scores, StepMetrics
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.job import EngineSpec, Stop
from checkpoints.describe import describe_folder
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.jobs.engine import identity, run_job
from tests.support.jobs.records import step_metrics
from worker.engine.checkpoint.load import load_step
from worker.engine.data import prepare
from worker.engine.stop import check_watchable, drop, result_after


def steps(*accuracies: float | None, name: str = "accuracy") -> list[StepMetrics]:
    return [
        step_metrics(number).model_copy(
            update={"validation": Scores.model_validate({"samples": 100, "cross_entropy": 0.5, name: value})}
        )
        for number, value in enumerate(accuracies)
    ]


def test_within_the_bound_a_job_goes_on_to_its_last_step() -> None:
    assert result_after(steps(0.9, 0.895), Stop(max_drop=0.01), last=False) is None
    result = result_after(steps(0.9, 0.895, 0.891), Stop(max_drop=0.01), last=True)
    assert result is not None
    assert (result.step, result.stopped) == (2, None)


@pytest.mark.parametrize(("before", "after"), [(0.89, 0.88), (0.3, 0.29), (0.07, 0.06), (1.0, 0.99)])
def test_a_drop_of_exactly_the_bound_is_within_it(before: float, after: float) -> None:
    """In binary the first of these differences is above 0.01."""
    assert result_after(steps(before, after), Stop(max_drop=0.01), last=False) is None
    # One sample of ten thousand more is not.
    assert result_after(steps(before, after - 1e-4), Stop(max_drop=0.01), last=False) is not None


@pytest.mark.parametrize("last", [False, True])
def test_beyond_the_bound_the_result_is_the_step_before(last: bool) -> None:
    result = result_after(steps(0.9, 0.895, 0.88), Stop(max_drop=0.01), last=last)
    assert result is not None
    assert (result.step, result.stopped) == (1, StopReason.MAX_DROP)
    assert "88.00%" in result.detail
    assert "2.00 points" in result.detail
    assert "step 1" in result.detail


def test_where_no_step_is_within_the_bound_the_original_is_the_result() -> None:
    result = result_after(steps(0.9, 0.5, name="mean_average_precision"), Stop(max_drop=0.01), last=False)
    assert result is not None
    assert (result.step, result.stopped) == (0, StopReason.MAX_DROP)
    assert "mAP" in result.detail
    assert "original model" in result.detail


def test_the_drop_is_from_the_original_and_not_from_the_step_before() -> None:
    assert drop(*(step.validation for step in steps(0.9, 0.85))) == pytest.approx(0.05)
    slow = steps(0.9, 0.896, 0.892, 0.888)
    assert result_after(slow[:3], Stop(max_drop=0.01), last=False) is None
    assert result_after(slow, Stop(max_drop=0.01), last=False) is not None


def test_without_a_bound_only_the_last_step_ends_a_job() -> None:
    assert result_after(steps(0.9, 0.1), None, last=False) is None
    result = result_after(steps(0.9, 0.1), None, last=True)
    assert result is not None
    assert (result.step, result.stopped) == (1, None)


def test_a_bound_on_what_cannot_be_measured_is_refused() -> None:
    unmeasured = steps(None)[0]
    check_watchable(unmeasured, None)
    with pytest.raises(SecateurError) as caught:
        check_watchable(unmeasured, Stop(max_drop=0.01))
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert caught.value.errors[0].pointer == "/stop"


STEPS = 4


def prune(out: Path, max_drop: float, resume: int | None = None) -> list[EngineEvent]:
    """One-shot cuts by magnitude at 21, 42, 63 and 84% of the tiny model's attention, in this process."""
    spec = EngineSpec.model_validate({
        "pruning": {
            "preset": "paper", "target": {"attention_sparsity": 0.84}, "granularity": "per_head", "criterion": "magnitude",
            "schedule": {"steps": STEPS},
        },
        "finetune": None,
        "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None},
        "stop": {"max_drop": max_drop},
        "deterministic": False,
    })  # fmt: skip
    # A process of its own that loads every step takes longer than all the rest, and has tests of its own.
    return run_job(out, spec, fresh_process=False, resume=resume)


def metrics_of(said: Sequence[EngineEvent]) -> list[StepMetrics]:
    return [event.metrics for event in said if isinstance(event, StepDone)]


def finished(said: Sequence[EngineEvent]) -> tuple[int, JobResult]:
    event = said[-1]
    assert isinstance(event, Finished)
    assert event.result is not None
    return event.steps, event.result


@dataclass(frozen=True)
class Runs:
    """The same job without a bound that matters, and with one between its first and its third drop."""

    folder: Path
    bound: float
    broken: int
    """The first step beyond the bound."""
    free: list[EngineEvent]
    bounded: list[EngineEvent]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("stop")
    free = prune(folder / "free", 0.99)
    original, *cuts = metrics_of(free)
    drops = [drop(original.validation, step.validation) for step in cuts]
    assert 0 < drops[0] < drops[2], drops
    bound = (drops[0] + drops[2]) / 2
    broken = next(number for number, lost in enumerate(drops, start=1) if lost > bound)
    return Runs(folder, bound, broken, free, prune(folder / "bounded", bound))


def test_a_job_ends_after_the_step_that_broke_the_bound(runs: Runs) -> None:
    taken, result = finished(runs.bounded)
    assert 2 <= runs.broken < STEPS
    assert taken == runs.broken
    assert (result.step, result.stopped) == (runs.broken - 1, StopReason.MAX_DROP)
    assert [step.step for step in metrics_of(runs.bounded)] == list(range(runs.broken + 1))
    assert (runs.folder / "bounded" / f"step-{runs.broken}" / "model.safetensors").exists(), "it is kept too"
    assert finished(runs.free)[0] == STEPS
    assert finished(runs.free)[1].stopped is None


def test_test_is_reported_once_and_for_the_result(runs: Runs) -> None:
    _, result = finished(runs.bounded)
    assert [step.test is not None for step in metrics_of(runs.bounded)] == [True] + [False] * runs.broken
    assert [step.test is not None for step in metrics_of(runs.free)] == [True] + [False] * (STEPS - 1) + [True]
    assert finished(runs.free)[1].test == metrics_of(runs.free)[-1].test
    newest = runs.folder / "bounded" / f"step-{runs.broken}"
    for name, listed in (("metrics.json", "steps"), ("pruning.json", "results")):
        record = json.loads((newest / name).read_text())
        assert record["result"] == result.model_dump(mode="json")
        tested = [step["step"] for step in record[listed] if step["test"] is not None]
        assert tested == [0, result.step]
        assert record[listed][result.step]["test"] == record["result"]["test"]
    before = runs.folder / "bounded" / f"step-{result.step}"
    assert json.loads((before / "pruning.json").read_text())["result"] is None


def test_the_scores_are_those_of_the_results_file(runs: Runs) -> None:
    """Read and scored here, apart from the job."""
    _, result = finished(runs.bounded)
    described = describe_folder(tiny_model())
    data = prepare(
        tiny_data(), tiny_model(), labels=described.labels, multi_label=False, columns=Columns(), splits=Splits(), seed=0,
        cache_dir=runs.folder / "cache", progress=lambda *_: None,
    )  # fmt: skip
    inputs, targets = data.splits[Split.TEST].batch(range(120))
    with torch.inference_mode():
        predicted = load_step(runs.folder / "bounded" / f"step-{result.step}").model(**inputs).logits.argmax(-1)
    assert result.test is not None
    assert result.test.accuracy == pytest.approx(accuracy_score(targets, predicted))


def test_a_bound_does_not_change_the_steps(runs: Runs) -> None:
    for step in range(1, runs.broken + 1):
        free, bounded = (runs.folder / name / f"step-{step}" / "model.safetensors" for name in ("free", "bounded"))
        assert free.read_bytes() == bounded.read_bytes()


@pytest.mark.parametrize("missing", [1, 0])
def test_a_resumed_job_decides_the_same(runs: Runs, tmp_path: Path, missing: int) -> None:
    """After the step before, and after the step that broke the bound itself, when nothing is left to do."""
    done = runs.broken - missing
    shutil.copytree(runs.folder / "bounded" / f"step-{done}", tmp_path / f"step-{done}")
    again = prune(tmp_path, runs.bound, resume=done)
    assert [step.step for step in metrics_of(again)] == [runs.broken] * missing
    assert finished(again) == finished(runs.bounded)
    if missing:
        folders = (tmp_path / f"step-{runs.broken}", runs.folder / "bounded" / f"step-{runs.broken}")
        assert identity(folders[0]) == identity(folders[1])


def test_a_bound_that_no_step_meets(runs: Runs, tmp_path: Path) -> None:
    original, first = (step.validation for step in metrics_of(runs.free)[:2])
    said = prune(tmp_path, drop(original, first) / 2)
    taken, result = finished(said)
    assert (taken, result.step, result.test) == (1, 0, metrics_of(said)[0].test)
    assert metrics_of(said)[1].test is None
    assert (tmp_path / "step-1" / "model.safetensors").exists()
