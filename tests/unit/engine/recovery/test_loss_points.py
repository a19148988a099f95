"""The curve of a recovery's loss: its points are means over parts of an epoch, few, and known without waiting for a device."""

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ASTForAudioClassification

from api_schemas.results.metrics import UnfinishedEpoch
from worker.engine.data.split import FeatureSplit
from worker.engine.recovery.objective import LossTracker, parts_of

from .conftest import train
from .test_resuming import Attempt, killed_after

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("batches", "epochs", "parts"),
    [
        (1, 1, 0),
        (2, 1, 2),
        (100, 1, 100),
        (5000, 1, 100),
        (5000, 2, 100),
        (5000, 3, 66),
        (40, 5, 40),
        (9, 100, 2),
        (9, 101, 0),
    ],
)
def test_points_are_few(batches: int, epochs: int, parts: int) -> None:
    assert parts_of(batches, epochs) == parts


def means(losses: np.ndarray, samples: np.ndarray, parts: int) -> list[float]:
    """Of the samples of each part, which ends with the first batch at which its share of the epoch is reached."""
    ends = [int(np.ceil((part + 1) * len(losses) / parts)) for part in range(parts)]
    starts = [0, *ends[:-1]]
    return [float(np.average(losses[a:b], weights=samples[a:b])) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(("batches", "parts"), [(7, 7), (7, 3), (250, 100), (64, 2), (101, 100)])
def test_points_are_means_by_sample_whenever_the_device_is_asked(batches: int, parts: int) -> None:
    random = np.random.default_rng(batches)
    losses, samples = random.uniform(0.1, 3.0, (2, batches)), random.integers(1, 9, (2, batches))
    eager, lazy = LossTracker(CPU, every=1), LossTracker(CPU, every=64)
    for epoch in range(2):
        expected = means(losses[epoch], samples[epoch], parts)
        for tracker in (eager, lazy):
            tracker.epoch(batches, parts)
            assert tracker.points == ()
        for batch in range(batches):
            for tracker in (eager, lazy):
                tracker.add(torch.tensor(losses[epoch, batch]), torch.tensor(1.0), int(samples[epoch, batch]))
            assert len(eager.points) == (batch + 1) * parts // batches
            assert eager.points == pytest.approx(expected[: len(eager.points)], rel=1e-4)
            # Between two looks it learns nothing.
            looked = (batch + 1) // 64 * 64 if epoch == 0 else None
            assert looked is None or len(lazy.points) == looked * parts // batches
        for tracker in (eager, lazy):
            assert tracker.total() == pytest.approx(float((losses[epoch] * samples[epoch]).sum()))
            assert tracker.points == pytest.approx(expected, rel=1e-4)
    # Five digits, whatever a float has.
    assert all(len(f"{point!r}") <= 7 for point in eager.points)


def test_a_recovery_tells_the_losses_of_its_batches(
    model: ASTForAudioClassification, split: FeatureSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 48 samples in batches of three: 16 an epoch, of which 13 epochs leave 15 points each."""
    told: list[UnfinishedEpoch] = []
    batches: list[tuple[float, int]] = []
    loop = import_module("worker.engine.recovery.finetune")
    gradient = loop.gradient

    def recorded(objective: object, passes: list[Any]) -> torch.Tensor:
        loss: torch.Tensor = gradient(objective, passes)
        batches.append((loss.item(), sum(len(targets) for _, targets in passes)))
        return loss

    monkeypatch.setattr(loop, "gradient", recorded)
    epochs = 13
    _, _, losses = train(model, split, batch_size=3, epochs=epochs, on_points=told.append)
    values, samples = np.array(batches).reshape(epochs, 16, 2).transpose(2, 0, 1)
    for number, epoch in enumerate(losses):
        assert epoch.points == pytest.approx(means(values[number], samples[number], 15), rel=1e-4)
        assert np.average(values[number], weights=samples[number]) == pytest.approx(epoch.train_loss)
        # Live, each of them as soon as it is known.
        live = [each for each in told if each.epoch == number + 1]
        assert [len(each.points) for each in live] == list(range(1, 16))
        assert {(each.epochs, each.parts) for each in live} == {(epochs, 15)}
        assert live[-1].points == epoch.points


def test_hearing_of_points_changes_nothing_and_one_batch_has_none(
    model: ASTForAudioClassification, split: FeatureSplit
) -> None:
    told: list[UnfinishedEpoch] = []
    one, _, with_points = train(copy.deepcopy(model), split, epochs=2, on_points=told.append)
    two, _, without = train(copy.deepcopy(model), split, epochs=2)
    assert told
    assert with_points == without
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    told.clear()
    _, _, [only] = train(model, split, epochs=1, batch_size=48, on_points=told.append)
    assert only.points == ()
    assert not told


def test_a_curve_gone_on_with_has_each_epoch_once(
    model: ASTForAudioClassification, split: FeatureSplit, tmp_path: Path
) -> None:
    whole = Attempt(model, split).run(None)
    assert [len(loss.points) for loss in whole.losses] == [5] * 5
    file = killed_after(3, Attempt(model, split), tmp_path / "first")
    again = Attempt(model, split)
    again.run(again.checkpointing(tmp_path / "second", file))
    [(before, _, _)] = again.resumed
    assert [*before, *again.losses] == whole.losses
