"""A model scored and cut as a spec says: how often samples pass through it, what is made up for, and scores that are none."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import ASTForAudioClassification

from api_schemas.enums import Basis, Compensation, Criterion, LabelSource, Split, TargetKind
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Calibration
from checkpoints.sizes.cost_model import BACKWARD, scoring_passes
from checkpoints.sizes.cost_unit import CostUnit
from tests.unit.engine.small import (
    CLASSES,
    DENSE,
    HEAD_DIM,
    HEADS,
    KIND,
    LAYERS,
    MELS,
    NEURONS,
    inputs,
    small_config,
    small_model,
    small_shape,
)  # fmt: skip
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.pipeline import PreparedData
from worker.engine.data.split import FeatureSplit, rows
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons, feed_forward_blocks
from worker.engine.models.model_spec import build
from worker.engine.pruning.calibration import refit_samples
from worker.engine.pruning.compensation import RIDGE, UNPRUNED_RIDGE, Ridges
from worker.engine.pruning.cutting import Cutting, ridges
from worker.engine.pruning.part_shares import STEP
from worker.engine.pruning.selection import KeptHead, Selection, keep_all
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


SURGEON = {"compensation": "least_squares", "neuron_selection": "brain_surgeon"}


def activations_and_stream(loaded, number):
    """Of the second map of a block: its input, and the residual stream after it, both float64, tokens in one dimension."""
    block = feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)[number]
    layer = loaded.model.audio_spectrogram_transformer.layers[number]
    seen = {}
    handles = [
        block.second.register_forward_pre_hook(lambda _m, args: seen.update(active=args[0])),
        layer.register_forward_hook(lambda _m, _args, y: seen.update(stream=y[0] if isinstance(y, tuple) else y)),
    ]
    with torch.inference_mode():
        loaded.model(inputs(SAMPLES))
    for handle in handles:
        handle.remove()
    return seen["active"].double().flatten(0, 1), seen["stream"].double().flatten(0, 1)


def test_a_surgeon_takes_as_many_of_every_block_and_scores_nothing():
    task, loaded = CountingTask(), small_model()
    cutting = cutting_for(task, target={"ffn_sparsity": 0.5}, **SURGEON)
    scored = cutting.score(loaded, 1)
    assert (task.forward, scored.scores, scored.neurons) == (0, (), ())
    assert scoring_passes(cutting.spec.pruning) == 0
    smaller, kept = cutting.prune(scored, 0.5)
    assert smaller.widths == kept.widths(DENSE)
    # The second biases stay and count, so half of the parameters are a neuron more than half of the neurons.
    assert smaller.widths.feed_forward == (NEURONS // 2 - 1, *[NEURONS // 2] * (LAYERS - 1))
    assert kept.heads == keep_all(DENSE)
    before, after = (feed_forward_blocks(model.model, KIND, model.widths) for model in (loaded, smaller))
    for old, new, stay in zip(before, after, kept.neurons, strict=True):
        assert torch.equal(new.first.weight, old.first.weight[list(stay)])
        assert torch.equal(new.first.bias, old.first.bias[list(stay)])
    # Nothing linear in the activations is left of the stream's error, but for the ridge.
    for number in range(LAYERS):
        _, wanted = activations_and_stream(loaded, number)
        active, stream = activations_and_stream(smaller, number)
        left, centred = wanted - stream, active - active.mean(0)
        assert left.mean(0).abs().max() < 1e-3
        explained = torch.linalg.lstsq(centred, left).solution
        assert (centred @ explained).square().mean() < 5e-2 * left.square().mean()


def test_one_target_of_both_is_shared_by_scores_and_neurons_are_the_surgeons():
    loaded = small_model()
    found = {}
    for selection in ("ranked", "brain_surgeon"):
        asked = {**SURGEON, "neuron_selection": selection, "parts": ["attention", "feed_forward"]}
        cutting = cutting_for(target={"parameters": 0.3}, criterion="energy", granularity="ragged", **asked)
        found[selection] = cutting.prune(cutting.score(loaded, 1), 0.3)[1]
    ranked, surgeon = found["ranked"], found["brain_surgeon"]
    assert surgeon.heads == ranked.heads
    counts = [len(stay) for stay in surgeon.neurons]
    assert sum(counts) == sum(map(len, ranked.neurons)) < sum(DENSE.feed_forward)
    assert max(counts) - min(counts) <= 1


def test_least_squares_take_samples_that_nothing_is_scored_on():
    """By magnitude scores are the same whatever the samples, so only the refit can tell."""
    cut = {}
    for name, calibration in {
        "few": {"samples": 2},
        "more": {"samples": 2, "refit_samples": SAMPLES},
        "all": {"samples": SAMPLES},
    }.items():
        cutting = cutting_for(
            target=ATTENTION, compensation="least_squares", criterion="magnitude", calibration=calibration
        )
        scored = cutting.score(small_model(), 1)
        assert scored.count == calibration["samples"]
        assert scored.refit_count == (2 if name == "few" else SAMPLES)
        cut[name] = cutting.prune(scored, 0.3)[0].model.state_dict()
    assert all(torch.equal(weight, cut["all"][key]) for key, weight in cut["more"].items())
    assert not all(torch.equal(weight, cut["all"][key]) for key, weight in cut["few"].items())


def test_the_division_between_the_parts_is_the_one_that_answers_most_alike():
    """Of every shift that was tried, judged here by a cut of its own on the rows that its refit did not see."""
    asked = {**SURGEON, "parts": ["attention", "feed_forward"], "part_shares": "searched", "granularity": "ragged"}
    cutting = cutting_for(
        target={"flops": 0.15}, criterion="energy", calibration={"samples": SAMPLES, "split": "train"}, **asked
    )
    scored = cutting.score(small_model(), 1)
    fit, judged = cutting._divided(scored)
    assert set(fit.tolist()) | set(judged.tolist()) == set(range(SAMPLES))
    assert len(judged) == SAMPLES // 3
    assert set(fit.tolist()).isdisjoint(judged.tolist())
    inputs_of, _ = cutting.data.splits[Split.TRAIN].batch(judged)

    def divergence(shift):
        kept = cutting._select(scored, 0.15, shift)
        model = cutting.cut_to(replace(scored, refit_rows=fit), kept)[0].model
        with torch.inference_mode():
            before, after = (each(**inputs_of).logits.log_softmax(-1) for each in (scored.loaded.model, model))
        return float((before.exp() * (before - after)).sum(-1).mean())

    kept = cutting.select(scored, 0.15)
    shift = scored.shifts[0.15]
    assert shift != 0
    assert kept == cutting._select(scored, 0.15, shift)
    found, ranked = divergence(shift), divergence(0.0)
    assert found < ranked
    for other in (shift - STEP / 0.3, shift + STEP / 0.3):
        assert found <= divergence(other) + 1e-9
    # The target is met all the same.
    unit = CostUnit.of(small_shape(), TargetKind.FLOPS)
    assert unit.share(kept.widths(DENSE)) == pytest.approx(0.15, abs=0.001)


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_neurons_give_up_more_by_a_shift_and_the_target_is_met_all_the_same(share):
    """At 0.3 attention has next to nothing left to give, so that fewer neurons cannot go."""
    asked = {**SURGEON, "parts": ["attention", "feed_forward"], "part_shares": "searched", "granularity": "ragged"}
    cutting = cutting_for(target={"flops": share}, criterion="energy", **asked)
    scored, unit = cutting.score(small_model(), 1), CostUnit.of(small_shape(), TargetKind.FLOPS)
    stay = []
    for moved in (-2 * STEP, -STEP, 0.0, STEP, 2 * STEP):
        kept = cutting._select(scored, share, moved / share)
        assert abs(unit.share(kept.widths(DENSE)) - share) <= max(unit.neuron) / unit.total
        stay.append(sum(map(len, kept.neurons)))
    assert stay == sorted(stay, reverse=True)
    assert stay[2] - stay[4] == pytest.approx(2 * STEP * sum(DENSE.feed_forward), abs=2)


def test_cuts_that_are_tried_for_a_bound_share_one_search():
    asked = {**SURGEON, "parts": ["attention", "feed_forward"], "part_shares": "searched"}
    target = {"max_drop": 0.1, "of": "flops"}
    cutting = cutting_for(target=target, granularity="ragged", calibration={"split": "train"}, **asked)
    scored = cutting.score(small_model(), 1)
    cutting.select(scored, 0.3)
    found = dict(scored.shifts)
    cutting.select(scored, 0.2)
    assert scored.shifts == found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("settings", "tokens", "expected"),
    [
        ({"samples": 512}, 25.0, 512),
        ({"samples": 512, "refit_samples": 2048}, 25.0, 2048),
        ({"samples": 512, "refit_samples": 8192}, 25.0, 1 + 64 * 1536 // 25),
        ({"samples": 512, "refit_samples": 2048}, 1214.0, 512),  # long inputs bring enough by themselves
        ({"samples": 512, "refit_samples": 2048}, None, 2048),
        ({"samples": 512, "refit_samples": 100}, 25.0, 512),
        ({"samples": None, "refit_samples": 2048}, 25.0, 5000),
        ({"samples": 512, "refit_samples": 9000}, None, 5000),
    ],
)
def test_as_many_samples_as_least_squares_need(settings, tokens, expected):
    assert refit_samples(Calibration(**settings), 5000, tokens=tokens, inputs=1536) == expected


def test_all_samples_count_however_long_and_however_sorted():
    """Clips of 66,600 tokens in all, sorted by label: W_o of the first layer as numpy fits it on all rows at once."""
    frames, clips = 200, 900
    torch.manual_seed(0)
    config = small_config(max_length=frames, num_hidden_layers=1)
    stock = ASTForAudioClassification(config)
    widths = DENSE.model_copy(update={"layers": DENSE.layers[:1], "feed_forward": (NEURONS,)})
    loaded = LoadedModel(build(KIND, config.to_dict(), widths, stock.state_dict()), KIND, widths, torch.float32)
    labels = torch.arange(clips) * CLASSES // clips
    generator = torch.Generator().manual_seed(1)
    of_label = 3.0 * torch.randn(CLASSES, MELS, generator=generator)
    clips_BTF = torch.randn(clips, frames, MELS, generator=generator) + of_label[labels][:, None]
    split = FeatureSplit({"input_values": clips_BTF.numpy()}, labels)
    cutting = cutting_for(target=ATTENTION, compensation="least_squares", criterion="energy")
    cutting = replace(cutting, data=PreparedData(None, dict.fromkeys(Split, split), 0.0))
    heads = (tuple(KeptHead(head, tuple(range(HEAD_DIM)), (0, 3, 5)) for head in range(HEADS)),)
    kept = Selection(heads, all_neurons(widths))
    smaller = cutting.apply(cutting.score(loaded, 1), kept)

    o = attention_blocks(loaded.model, KIND, widths)[0].projections["o"]
    seen = []
    o.register_forward_hook(lambda _m, args, y: seen.append((args[0].flatten(0, 1), y.flatten(0, 1))))
    with torch.inference_mode():
        for some in clips_BTF.split(100):
            loaded.model(some)
    columns = [head * HEAD_DIM + channel for head in range(HEADS) for channel in (0, 3, 5)]
    x_RC, y_RD = (torch.cat(part).double().numpy() for part in zip(*seen, strict=True))
    x_RC = x_RC[:, columns]
    assert len(x_RC) > 65_536
    pull = np.sqrt(RIDGE * np.square(x_RC).sum(0).mean()) * np.eye(len(columns))
    left = np.vstack([np.hstack([x_RC, np.ones((len(x_RC), 1))]), np.hstack([pull, np.zeros((len(columns), 1))])])
    right = np.vstack([y_RD, pull @ o.weight.detach().double().numpy()[:, columns].T])
    expected = np.linalg.lstsq(left, right, rcond=None)[0]
    refitted = attention_blocks(smaller.model, KIND, smaller.widths)[0].projections["o"]
    torch.testing.assert_close(refitted.weight.detach().double().numpy(), expected[:-1].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(refitted.bias.detach().double().numpy(), expected[-1], rtol=1e-4, atol=1e-5)
