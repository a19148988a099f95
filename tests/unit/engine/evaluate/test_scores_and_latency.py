"""Scores and timings of small models, on splits held in memory."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, log_loss
from torch import Tensor, nn

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.sizes.cost_model import LEAST_ROUNDS
from worker.engine.data.split import FeatureSplit
from worker.engine.evaluate import evaluate, measure_latency
from worker.engine.latency import timing
from worker.engine.tasks import Classification

CPU = torch.device("cpu")
ONE, SEVERAL = Classification(several=False), Classification(several=True)


class Pooled(nn.Module):
    """Mean over time, dropout and a linear layer: logits as a transformers model returns them. Remembers its inputs."""

    def __init__(self, mels: int, classes: int) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(0.5), nn.Linear(mels, classes)
        self.seen: list[Tensor] = []

    def forward(self, input_values: Tensor) -> SimpleNamespace:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.seen.append(input_values)
        return SimpleNamespace(logits=self.linear(self.dropout(input_values.mean(dim=1))))


@pytest.fixture
def model() -> Pooled:
    torch.manual_seed(0)
    return Pooled(mels=4, classes=3).train()


@pytest.fixture
def split() -> FeatureSplit:
    random = np.random.default_rng(0)
    return FeatureSplit({"input_values": random.normal(size=(23, 6, 4)).astype(np.float32)}, torch.arange(23) % 3)


def test_scores_are_those_of_one_forward_pass_in_order(model: Pooled, split: FeatureSplit) -> None:
    counted: list[tuple[int, int]] = []
    scores = evaluate(
        model,
        split,
        ONE,
        batch_size=7,
        device=CPU,
        progress=lambda *pair: counted.append(pair),
    )
    assert model.training
    assert counted == [(7, 23), (14, 23), (21, 23), (23, 23)]
    assert torch.equal(torch.cat(model.seen), torch.from_numpy(split.inputs["input_values"]))
    probabilities = (
        model.linear(torch.from_numpy(split.inputs["input_values"]).mean(1)).double().softmax(1).detach().numpy()
    )
    assert scores.samples == 23
    assert scores.accuracy == accuracy_score(split.targets, probabilities.argmax(1))
    assert scores.cross_entropy == pytest.approx(log_loss(split.targets, probabilities), rel=1e-5)
    assert scores.mean_average_precision is None


def test_several_labels_are_scored_by_mean_average_precision(model: Pooled, split: FeatureSplit) -> None:
    targets = torch.zeros(23, 3)
    targets[::2, 0] = targets[::5, 1] = 1  # nothing has class 2
    several = FeatureSplit({"input_values": split.inputs["input_values"]}, targets)
    scores = evaluate(model, several, SEVERAL, batch_size=32, device=CPU)
    logits = model.linear(torch.from_numpy(split.inputs["input_values"]).mean(1)).detach().numpy()
    expected = average_precision_score(targets[:, :2].numpy(), logits[:, :2])
    assert scores.mean_average_precision == pytest.approx(expected)
    assert scores.accuracy is None


def test_no_positive_label_leaves_the_metric_out(model: Pooled, split: FeatureSplit) -> None:
    none = FeatureSplit({"input_values": split.inputs["input_values"]}, torch.zeros(23, 3))
    assert evaluate(model, none, SEVERAL, batch_size=32, device=CPU).mean_average_precision is None


def test_logits_that_are_not_finite_are_an_error(model: Pooled, split: FeatureSplit) -> None:
    with torch.no_grad():
        model.linear.bias[1] = float("nan")
    with pytest.raises(SecateurError) as caught:
        evaluate(model, split, ONE, batch_size=8, device=CPU)
    assert caught.value.code is ErrorCode.NUMERICAL
    assert model.training


def test_an_empty_split_is_an_error(model: Pooled, split: FeatureSplit) -> None:
    with pytest.raises(SecateurError) as caught:
        evaluate(model, split.subset([]), ONE, batch_size=8, device=CPU)
    assert caught.value.code is ErrorCode.DATASET_EMPTY


def test_latency_times_both_models_in_turn(model: Pooled, split: FeatureSplit) -> None:
    cut = Pooled(mels=4, classes=3)
    order: list[str] = []
    collecting: list[bool] = []
    model.register_forward_pre_hook(lambda *_: order.append("dense"))
    cut.register_forward_pre_hook(lambda *_: order.append("cut"))
    cut.register_forward_pre_hook(lambda *_: collecting.append(gc.isenabled()))
    measured = measure_latency(model, cut, split, batch_sizes=(2, 50), runs=6, device=CPU)
    assert not any(collecting)
    assert gc.isenabled()
    assert model.training
    assert [entry.batch_size for entry in measured] == [2, 50]
    # In every round, warm-up included, the original twice: its copy takes its hooks along.
    assert [order.count("dense"), order.count("cut")] == [2 * 2 * (6 + 3), 2 * (6 + 3)]
    rounds = [order[at : at + 3] for at in range(0, len(order), 3)]
    assert all(sorted(round_) == ["cut", "dense", "dense"] for round_ in rounds)
    assert len({tuple(round_) for round_ in rounds}) == 3  # the cut one first, second and last
    for entry in measured:
        assert entry.runs == 6
        assert 0 < entry.p50_ms <= entry.p95_ms
        assert 0 < entry.dense_p50_ms <= entry.dense_p95_ms
        assert entry.speedup == pytest.approx(entry.dense_p50_ms / entry.p50_ms)
        assert entry.paired is not None
        assert entry.paired.low <= entry.paired.ratio <= entry.paired.high
        assert entry.paired.noise_low <= entry.paired.noise_high
        assert entry.throughput == pytest.approx(entry.batch_size / entry.p50_ms * 1000)
    # 50 rows of a split of 23: the rows repeat.
    last = cut.seen[-1]
    assert last.shape == (50, 6, 4)
    assert torch.equal(last[:4], last[23:27])


@pytest.mark.parametrize(("long", "runs"), [(60.0, 8), (1e-9, 20)], ids=["short", "long"])
def test_no_rounds_are_made_to_tell_the_original_from_itself(
    model: Pooled, split: FeatureSplit, long: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "sure", lambda _times: False)
    monkeypatch.setattr(timing, "LONG", long)
    monkeypatch.setattr(timing, "PATIENCE", 1e15)
    found = [
        measure_latency(model, other, split, batch_sizes=(1,), runs=runs, seconds=1e6, device=CPU)[0].runs
        for other in (model, Pooled(mels=4, classes=3))
    ]
    assert found == [8 if long > 1 else LEAST_ROUNDS, 10 * runs]


def test_latency_sees_a_slower_model(split: FeatureSplit) -> None:
    class Slow(Pooled):
        def forward(self, input_values: Tensor) -> SimpleNamespace:
            matrix = torch.ones(300, 300)
            for _ in range(20):
                matrix = (matrix @ matrix).clamp(max=1.0)
            return super().forward(input_values)

    (entry,) = measure_latency(Slow(4, 3), Pooled(4, 3), split, batch_sizes=(1,), runs=5, device=CPU)
    assert entry.speedup > 2
    assert entry.paired is not None
    assert entry.paired.ratio > 2
