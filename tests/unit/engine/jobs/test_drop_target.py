"""Whole jobs whose target is a bound on the drop: what is found, confirmed, gone back from, and taken up again after a crash."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from api_schemas.enums import StopReason
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import EngineEvent, Finished, PhaseChanged, Progress
from api_schemas.results.metrics import DropSearch, JobResult, Scores, StepMetrics
from api_schemas.spec.pruning import Target
from tests.support.checkpoints.tiny import some_data
from tests.support.jobs.engine import identity, run_job, steps_of
from tests.support.jobs.records import step_metrics
from worker.engine.latency.table import LATENCY_FILE
from worker.engine.stop import check_watchable, confirmed

QUICK = {"latency_batch_sizes": [], "sensitivity_samples": None}
HARM = {"epochs": 1, "learning_rate": 0.05}
"""Steps far too long: this trains the model to pieces."""


def prune(
    out: Path, target: Mapping[str, Any], *, finetune: Mapping[str, Any] | None = None, evaluate: Mapping[str, Any] = QUICK,
    resume: int | None = None, hear: Any = lambda _: None, **pruning: Any,
) -> list[EngineEvent]:  # fmt: skip
    cut = pruning or {"preset": "paper", "criterion": "magnitude", "granularity": "per_head"}
    spec = {"pruning": {**cut, "target": target}, "finetune": finetune, "evaluate": evaluate}
    return run_job(out, spec, data=some_data(), fresh_process=False, resume=resume, hear=hear)


def finished(said: Sequence[EngineEvent]) -> JobResult:
    assert isinstance(said[-1], Finished)
    assert said[-1].result is not None
    return said[-1].result


def search_of(steps: Sequence[StepMetrics]) -> DropSearch:
    found = steps[0].search
    assert found is not None
    assert all(step.search is None for step in steps[1:])
    return found


class KilledError(Exception):
    """The process ends."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EngineEvent]]:
    out = tmp_path_factory.mktemp("whole")
    return out, prune(out, {"max_drop": 0.05})


def test_the_largest_cut_that_held_is_the_step_and_the_result(whole: tuple[Path, list[EngineEvent]]) -> None:
    out, said = whole
    steps = original, cut = steps_of(said)
    found = search_of(steps)
    held = [each for each in found.tried if each.within]
    best = max(held, key=lambda each: each.achieved)
    assert (found.of, found.max_drop) == ("flops", 0.05)
    assert held
    assert len(held) < len(found.tried)
    assert cut.target is not None
    assert (cut.target.kind, cut.target.requested, cut.target.achieved) == ("flops", best.requested, best.achieved)
    assert cut.validation == best.validation
    assert cut.size.flops == round((1 - best.achieved) * original.size.flops)
    result = finished(said)
    assert (result.step, result.stopped, result.test) == (1, None, cut.test)
    assert cut.test is not None
    assert "the allowed drop is 5 points" in result.detail
    # What was asked and what was found are in the records and in what people read.
    record = json.loads((out / "step-1" / "pruning.json").read_text())
    assert record["spec"]["pruning"]["target"]["max_drop"] == 0.05
    assert record["results"][0]["search"] == found.model_dump(mode="json")
    for file in ("README.md", "report.html"):
        text = (out / "step-1" / file).read_text()
        assert "the smallest model by FLOPs that loses no more than 5 points on validation" in text
        assert f"the largest within the bound removes {best.achieved:.2%} of the original FLOPs" in text
    assert text.count("<td>beyond</td>") == len(found.tried) - len(held)


def test_the_cuts_that_are_tried_are_a_phase_that_counts_them(whole: tuple[Path, list[EngineEvent]]) -> None:
    _, said = whole
    phases = [(event.step, event.phase.value) for event in said if isinstance(event, PhaseChanged)]
    assert phases[:5] == [(0, "preparing"), (0, "evaluating"), (0, "scoring"), (0, "analysing"), (1, "pruning")]
    counted = [event for event in said if isinstance(event, Progress) and event.phase == "analysing"]
    assert (counted[-1].done, counted[-1].total) == (8, 8)


def test_a_job_that_ended_before_its_step_tries_nothing_again_and_ends_the_same(
    whole: tuple[Path, list[EngineEvent]], tmp_path: Path
) -> None:
    """The first attempt is one of its own, so that whatever is found twice is found alike."""

    def kill(event: EngineEvent) -> None:
        if isinstance(event, PhaseChanged) and (event.step, event.phase) == (1, "packaging"):
            raise KilledError

    with pytest.raises(KilledError):
        prune(tmp_path, {"max_drop": 0.05}, hear=kill)
    assert identity(tmp_path / "step-0") == identity(whole[0] / "step-0")
    again = prune(tmp_path, {"max_drop": 0.05}, resume=0)
    assert not [event for event in again if isinstance(event, PhaseChanged) and event.phase == "analysing"]
    assert identity(tmp_path / "step-1") == identity(whole[0] / "step-1")
    assert finished(again) == finished(whole[1])


def test_where_recovery_loses_too_much_smaller_cuts_are_confirmed_and_then_it_is_the_original(tmp_path: Path) -> None:
    said = prune(tmp_path / "whole", {"max_drop": 0.05, "of": "attention_sparsity"}, finetune=HARM)
    steps, result = steps_of(said), finished(said)
    first = max(each.requested for each in search_of(steps).tried if each.within)
    asked = [step.target.requested for step in steps if step.target]
    assert asked == [pytest.approx(share * first) for share in (1, 0.75, 0.5)]
    assert (result.step, result.stopped, result.test) == (0, StopReason.MAX_DROP, steps[0].test)
    assert "All 3 confirmed cuts" in result.detail
    # Each is a cut of the original, and not of what the one before it left.
    assert [step.achieved_sparsity for step in steps[1:]] == pytest.approx(asked, abs=0.02)
    assert [step.test is not None for step in steps] == [True, False, False, False]
    assert "beyond the bound" in (tmp_path / "whole" / "step-3" / "report.html").read_text()
    for done in (1, 2):
        resumed = tmp_path / f"after-{done}"
        shutil.copytree(tmp_path / "whole" / f"step-{done}", resumed / f"step-{done}")
        again = prune(resumed, {"max_drop": 0.05, "of": "attention_sparsity"}, finetune=HARM, resume=done)
        assert [step.step for step in steps_of(again)] == list(range(done + 1, 4))
        assert identity(resumed / "step-3") == identity(tmp_path / "whole" / "step-3")
        assert finished(again) == result


def test_both_parts_by_the_best_preset_with_recovery_and_layers_alone(tmp_path: Path) -> None:
    said = prune(
        tmp_path, {"max_drop": 0.05}, finetune={"epochs": 1}, evaluate={**QUICK, "sensitivity_samples": 8},
        parts=["attention", "feed_forward"], calibration={"samples": 32}, exclude_layers=[1],
    )  # fmt: skip
    steps = original, cut = steps_of(said)
    best = max((each for each in search_of(steps).tried if each.within), key=lambda each: each.achieved)
    assert original.sensitivity is not None
    assert cut.validation_before_recovery == best.validation
    assert cut.target is not None
    assert cut.target.achieved == best.achieved
    assert cut.losses
    assert finished(said).step == 1
    assert cut.widths.layers[1] == original.widths.layers[1]
    assert sum(cut.widths.feed_forward) < sum(original.widths.feed_forward)
    assert [event.phase for event in said if isinstance(event, PhaseChanged)].count("scoring") == 1


def test_by_latency_it_is_looked_up_in_the_table_that_is_kept(tmp_path: Path) -> None:
    timed = {"latency_batch_sizes": [1], "latency_runs": 5, "latency_seconds": 0, "sensitivity_samples": None}
    entire_head = {"preset": "paper", "criterion": "magnitude", "min_heads": 0}
    said = prune(tmp_path / "whole", {"max_drop": 0.2, "of": "latency"}, evaluate=timed, **entire_head)
    steps = steps_of(said)
    assert search_of(steps).of == "latency"
    assert all(each.achieved <= search_of(steps).reach + 1e-9 for each in search_of(steps).tried)
    shutil.copytree(tmp_path / "whole" / "step-0", tmp_path / "resumed" / "step-0")
    prune(tmp_path / "resumed", {"max_drop": 0.2, "of": "latency"}, evaluate=timed, resume=0, **entire_head)
    last = f"step-{steps[-1].step}"
    assert identity(tmp_path / "resumed" / last) == identity(tmp_path / "whole" / last)
    assert (tmp_path / "whole" / last / LATENCY_FILE).exists()


def steps(*accuracies: float | None) -> list[StepMetrics]:
    return [
        step_metrics(number).model_copy(update={"validation": Scores(samples=100, accuracy=value)})
        for number, value in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "last", "step"),
    [
        ((0.9, 0.89), False, 1),
        ((0.9, 0.8899), False, None),
        ((0.9, 0.8899, 0.895), False, 2),
        ((0.9, 0.95), True, 1),
        ((0.9, 0.8, 0.8899), True, 0),
    ],
)
def test_the_first_step_within_the_bound_is_the_result(
    accuracies: tuple[float, ...], last: bool, step: int | None
) -> None:
    result = confirmed(steps(*accuracies), 0.01, last=last)
    assert (None if result is None else result.step) == step
    assert result is None or (result.stopped is StopReason.MAX_DROP) is (step == 0)


def test_a_result_above_the_original_says_so() -> None:
    result = confirmed(steps(0.9, 0.95), 0.01, last=True)
    assert result is not None
    assert "5.00 points above the original's 90.00%; the allowed drop is 1 point" in result.detail


def test_a_bound_on_what_cannot_be_measured_is_refused() -> None:
    check_watchable(steps(None)[0], None, Target(flops=0.5))
    with pytest.raises(SecateurError) as caught:
        check_watchable(steps(None)[0], None, Target(max_drop=0.01))
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert caught.value.errors[0].pointer == "/pruning/target/max_drop"
