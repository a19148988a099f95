"""A model scored and cut as a spec says: how often samples pass through it, what is made up for, and scores that are none."""

from types import SimpleNamespace

import pytest
import torch

from api_schemas.enums import Basis, Compensation, Criterion, LabelSource, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from checkpoints.sizes.cost_model import BACKWARD, scoring_passes
from tests.unit.engine.small import CLASSES, DENSE, LAYERS, inputs, small_model, small_shape
from worker.engine.data.pipeline import PreparedData
from worker.engine.data.split import FeatureSplit, rows
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning.compensation import RIDGE, UNPRUNED_RIDGE, Ridges
from worker.engine.pruning.cutting import Cutting, ridges
from worker.engine.pruning.selection import keep_all
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Classification

SAMPLES, DRAWS = 10, 3
ATTENTION, FEED_FORWARD = {"attention_sparsity": 0.3}, {"ffn_sparsity": 0.3}


class CountingTask(Classification):
    """Counts the samples that pass forward and, once a loss is asked for, backward."""

    def __init__(self):
        super().__init__(several=False)
        self.forward = self.backward = 0

    def outputs(self, model, inputs):
        self.forward += rows(inputs)
        return super().outputs(model, inputs)

    def loss(self, logits, targets):
        self.backward += len(logits)
        return super().loss(logits, targets)

    def sampled_label_loss(self, seed):
        drawn = super().sampled_label_loss(seed)

        def loss(logits, targets):
            self.backward += len(logits)
            return drawn(logits, targets)

        return loss


def cutting_for(task=None, **pruning):
    spec = EngineSpec.model_validate({"pruning": {"preset": "paper", **pruning}, "finetune": None})
    split = FeatureSplit({"input_values": inputs(SAMPLES).numpy()}, torch.arange(SAMPLES) % CLASSES)
    data = PreparedData(None, dict.fromkeys(Split, split), 0.0)
    described = SimpleNamespace(shape=small_shape())
    task = task or Classification(several=False)
    return Cutting(spec, described, data, task, torch.device("cpu"), Reporter(lambda _: None, 1, {}))


@pytest.mark.parametrize("target", [ATTENTION, FEED_FORWARD], ids=["attention", "feed_forward"])
@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("criterion", Criterion)
def test_samples_pass_as_often_as_estimates_count(criterion, basis, target):
    """Forward once for all draws of labels, and once more where the basis changes between."""
    labels = LabelSource.DATA if criterion is Criterion.TAYLOR else LabelSource.MODEL
    draws = 1 if labels is LabelSource.DATA else DRAWS
    for compensation in (Compensation.NONE, Compensation.BIAS):
        task = CountingTask()
        cutting = cutting_for(
            task, target=target, criterion=criterion, basis=basis, compensation=compensation,
            calibration={"labels": labels, "draws": DRAWS},
        )  # fmt: skip
        cutting.score(small_model(), 1)
        passed = (task.forward + BACKWARD * task.backward) / SAMPLES
        assert passed == scoring_passes(cutting.spec.pruning)
        assert task.backward in (0, draws * SAMPLES)


@pytest.mark.parametrize(
    ("target", "compensation", "expected"),
    [
        (ATTENTION, "least_squares", Ridges(RIDGE, None)),
        (ATTENTION, "least_squares_feed_forward", Ridges(RIDGE, UNPRUNED_RIDGE)),
        (FEED_FORWARD, "least_squares", Ridges(RIDGE, RIDGE)),
        (FEED_FORWARD, "least_squares_feed_forward", Ridges(RIDGE, RIDGE)),
    ],
)
def test_what_was_cut_moves_more_freely(target, compensation, expected):
    assert ridges(cutting_for(target=target, compensation=compensation).spec.pruning) == expected


def test_neurons_that_go_leave_their_mean_and_attention_stays():
    cutting, loaded = cutting_for(target=FEED_FORWARD, criterion="energy", compensation="bias"), small_model()
    smaller, kept = cutting.prune(cutting.score(loaded, 1), 0.3)
    assert kept.heads == keep_all(DENSE)
    assert sum(map(len, kept.neurons)) < sum(DENSE.feed_forward)
    old = feed_forward_blocks(loaded.model, loaded.model_spec, DENSE)
    new = feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths)
    active = [[] for _ in old]
    for block, seen in zip(old, active, strict=True):
        block.second.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0]))
    with torch.inference_mode():
        loaded.model(inputs(SAMPLES))
    for before, after, seen, stay in zip(old, new, active, kept.neurons, strict=True):
        gone = [n for n in range(before.second.in_features) if n not in stay]
        mean = seen[0].double().flatten(0, 1).mean(0)[gone]
        lost = before.second.weight.double()[:, gone] @ mean
        torch.testing.assert_close(after.second.bias.double(), before.second.bias.double() + lost, rtol=1e-5, atol=1e-6)
    path = "audio_spectrogram_transformer.layers.{}.attention.o_proj.bias"
    for layer in range(LAYERS):
        biases = [model.model.get_parameter(path.format(layer)) for model in (loaded, smaller)]
        assert torch.equal(*biases)


@pytest.mark.parametrize("target", [ATTENTION, FEED_FORWARD], ids=["attention", "feed_forward"])
def test_layers_that_are_left_out_are_not_fitted_either(target):
    cutting, loaded = cutting_for(target=target, preset="best", exclude_layers=[1]), small_model()
    smaller, _ = cutting.prune(cutting.score(loaded, 1), 0.2)
    changed = set()
    for name, weight in smaller.model.state_dict().items():
        _, _, rest = name.partition(".layers.")
        original = loaded.model.state_dict()[name]
        # Least squares move what writes to the stream; the principal basis turns the rest.
        if rest.endswith(("o_proj.bias", "fc2.bias")) and not torch.equal(weight, original):
            changed.add(int(rest[0]))
    assert changed == {0, 2}


@pytest.mark.parametrize("target", [ATTENTION, FEED_FORWARD], ids=["attention", "feed_forward"])
def test_scores_that_are_not_finite_are_refused(target):
    loaded = small_model()
    with torch.no_grad():
        loaded.model.classifier.dense.weight.mul_(1e37)
    with pytest.raises(SecateurError, match="not finite") as caught:
        cutting_for(target=target, criterion="fisher").score(loaded, 1)
    assert caught.value.code is ErrorCode.NUMERICAL
