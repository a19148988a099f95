"""A whole job that is killed within a recovery and gone on with, and one whose passes are bounded."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from api_schemas.enums import Phase
from api_schemas.results.events import EngineEvent, Loss, Progress, StepDone, TrainingSaved
from api_schemas.spec.job import EngineSpec
from tests.support.jobs.engine import identity, run_job
from tests.unit.engine.jobs.test_engine import events, start
from worker.engine.models import pruned_classes

EPOCHS = 3
SPEC = EngineSpec.model_validate({
    "pruning": {
        "target": {"attention_sparsity": 0.5}, "granularity": "per_head", "schedule": {"steps": 2},
        "calibration": {"samples": 64, "split": "train"},
    },
    "finetune": {"epochs": EPOCHS, "distill": {"weight": 0.5, "attention": 0.1}},
    "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": 10},
    "seed": 3,
})  # fmt: skip


class Killed(Exception):
    pass


def prune(
    out: Path, said: list[EngineEvent], kill: Callable[[EngineEvent], bool] = lambda _: False, **options: object
) -> None:
    def hear(event: EngineEvent) -> None:
        said.append(event)
        if kill(event):
            raise Killed

    run_job(out, SPEC, fresh_process=False, hear=hear, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """In one go; no recovery takes so long that it would be saved."""
    out, said = tmp_path_factory.mktemp("whole"), []
    prune(out, said)
    assert not [event for event in said if isinstance(event, TrainingSaved)]
    assert not (out / "training").exists()
    return out, said


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Saved after every epoch, and killed in the second step when two of three are done."""
    out, said = tmp_path_factory.mktemp("killed"), []
    with pytest.raises(Killed):
        prune(
            out, said, training_seconds=0.0,
            kill=lambda event: isinstance(event, TrainingSaved) and (event.step, event.epoch) == (2, 2),
        )  # fmt: skip
    return out, said


def after_first(event: EngineEvent) -> bool:
    return isinstance(event, StepDone) and event.metrics.step == 1


def last_metrics(said: list[EngineEvent]):
    return [event.metrics for event in said if isinstance(event, StepDone)][-1]


def test_what_is_saved_is_said(killed):
    out, said = killed
    saved = [event for event in said if isinstance(event, TrainingSaved)]
    assert [(event.step, event.epoch, event.epochs) for event in saved] == [(1, 1, 3), (1, 2, 3), (2, 1, 3), (2, 2, 3)]
    assert saved[-1].file == "training/step-2-epoch-2.safetensors"
    assert [path.name for path in (out / "training").iterdir()] == ["step-2-epoch-2.safetensors"]
    assert not (out / "step-2").exists()


def test_saving_changes_no_bit(whole, killed):
    assert identity(killed[0] / "step-1") == identity(whole[0] / "step-1")


def test_gone_on_with_it_is_as_in_one_go(whole, killed, tmp_path):
    """In another folder, with the files that a supervisor would bring there."""
    shutil.copytree(killed[0] / "step-1", tmp_path / "step-1")
    file = shutil.copy(killed[0] / "training" / "step-2-epoch-2.safetensors", tmp_path / "earlier.safetensors")
    said: list[EngineEvent] = []
    prune(tmp_path, said, resume=1, training=file)
    assert identity(tmp_path / "step-2") == identity(whole[0] / "step-2")
    assert last_metrics(said).losses == last_metrics(whole[1]).losses
    assert len(last_metrics(said).losses) == EPOCHS
    # Told once: the others were told by the attempt that was killed.
    [told] = [event for event in said if isinstance(event, Loss)]
    assert (told.step, told.epoch) == (2, 3)
    assert told.points == last_metrics(said).losses[2].points
    assert len(told.points) > 1
    training = [event for event in said if isinstance(event, Progress) and event.phase is Phase.FINETUNING]
    assert training[0].done == 2 * training[0].total // 3 + 1
    assert training[0].training is not None
    assert (training[0].training.epoch, training[0].training.points) == (3, told.points[:1])
    assert training[-1].done == training[-1].total
    fractions = [event.fraction for event in said if isinstance(event, Progress) and event.step == 2]
    # An estimate from measured speeds: on a busy machine it may also fall a little.
    assert 0.3 < fractions[0] < fractions[-1] == 1.0


def test_a_file_of_another_step_is_ignored(whole, killed, tmp_path, caplog):
    """It lies about for the step that is recovered first here; the second step does not look at it at all."""
    file = killed[0] / "training" / "step-2-epoch-2.safetensors"
    said: list[EngineEvent] = []
    with caplog.at_level(logging.WARNING), pytest.raises(Killed):
        prune(tmp_path, said, training=file, kill=after_first)
    assert identity(tmp_path / "step-1") == identity(whole[0] / "step-1")
    assert [event.epoch for event in said if isinstance(event, Loss)] == [1, 2, 3]
    assert caplog.text.count("starts over; step-2-epoch-2.safetensors is not used") == 1
    assert file.exists()


def test_no_pass_is_larger_than_allowed(whole, tmp_path, monkeypatch):
    """Calibration, sensitivity, evaluation, student and teacher; and the job comes to about the same."""
    seen: list[int] = []

    pruned = pruned_classes("ASTForAudioClassification").pruned
    forward = pruned.forward

    def watched(model: nn.Module, input_values: torch.Tensor, **others: object) -> object:
        seen.append(len(input_values))
        return forward(model, input_values, **others)

    monkeypatch.setattr(pruned, "forward", watched)
    said: list[EngineEvent] = []
    with pytest.raises(Killed):
        prune(tmp_path, said, microbatch=5, kill=after_first)
    assert max(seen) == 5
    bounded, free = (next(filter(after_first, heard)).metrics for heard in (said, whole[1]))
    assert bounded.achieved_sparsity == pytest.approx(free.achieved_sparsity, abs=0.01)
    assert bounded.validation.accuracy == pytest.approx(free.validation.accuracy, abs=0.06)
    assert bounded.validation.samples == free.validation.samples


def test_the_program_takes_all_of_it(killed, tmp_path):
    """Its options reach the job; a file of the second step is of no use to the first, and does no harm."""
    spec = {
        "pruning": {
            "preset": "paper", "target": {"attention_sparsity": 0.5}, "criterion": "magnitude", "schedule": {"steps": 1},
        },
        "finetune": {"epochs": 2},
        "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None},
    }  # fmt: skip
    file = killed[0] / "training" / "step-2-epoch-2.safetensors"
    options = ("--training", str(file), "--training-seconds", "0", "--microbatch", "16")
    ran = start(tmp_path, spec, *options)
    assert ran.returncode == 0, ran.stderr
    saved = next(event for event in events(ran) if isinstance(event, TrainingSaved))
    assert (saved.step, saved.epoch, saved.epochs) == (1, 1, 2)
    with safe_open(tmp_path / saved.file, framework="pt") as opened:
        course = json.loads(opened.metadata()["training"])["course"]
    assert course["microbatch"] == 16
    assert "step-2-epoch-2.safetensors is not used" in ran.stderr
    refused = start(tmp_path / "none", spec, "--microbatch", "0")
    assert refused.returncode == 2
    assert "must be at least 1" in refused.stderr
