"""Recovery on a tiny Audio Spectrogram Transformer: what changes, by how much, and that it does so every time."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ASTForAudioClassification, WhisperConfig, WhisperForConditionalGeneration

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.recovery import Augment, Finetune, Lora
from worker.engine.data.split import FeatureSplit
from worker.engine.recovery.finetune import learning_rate_factor, trainable
from worker.engine.recovery.lora import attach, capped_ranks, merge
from worker.engine.recovery.objective import LossTracker

from .conftest import CLASSES, projections_of, train

CPU = torch.device("cpu")


def test_adapters_start_as_the_identity(model: ASTForAudioClassification) -> None:
    before = copy.deepcopy(model.state_dict())
    adapted, _ = attach(model, projections_of(model), ["classifier"], Lora())
    merged = merge(adapted)
    assert merged is model
    assert merged.state_dict().keys() == before.keys()
    assert all(torch.equal(merged.state_dict()[name], before[name]) for name in before)


def test_training_learns_and_changes_projections_and_classifier_alone(
    model: ASTForAudioClassification, split: FeatureSplit
) -> None:
    before = copy.deepcopy(model.state_dict())
    names = projections_of(model)
    tuned, _, losses = train(model, split, epochs=8)
    assert [loss.epoch for loss in losses] == list(range(1, 9))
    assert losses[-1].train_loss < 0.5 * losses[0].train_loss
    assert 0 < losses[-1].learning_rate < losses[1].learning_rate
    changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
    classifier = {name for name in before if name.startswith("classifier.")}
    # An adapter has no bias: the projections' stay.
    assert changed == {f"{name}.weight" for name in names} | classifier


def test_all_weights_are_trained_where_that_is_asked_for(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    before = copy.deepcopy(model.state_dict())
    model.requires_grad_(False)  # as scoring leaves it
    tuned, ranks, losses = train(model, split, epochs=8, method="full")
    assert tuned is model
    assert ranks == {}
    assert losses[-1].train_loss < 0.5 * losses[0].train_loss
    assert all(not torch.equal(value, before[name]) for name, value in tuned.state_dict().items())


def test_what_a_class_holds_fixed_is_not_trained() -> None:
    """The sinusoids of Whisper's encoder are a parameter, which transformers does not train."""
    config = WhisperConfig(
        d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1, encoder_ffn_dim=8,
        decoder_ffn_dim=8, vocab_size=16, max_source_positions=4, max_target_positions=4, num_mel_bins=4, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    whisper = WhisperForConditionalGeneration(config).requires_grad_(False)
    trained, _ = trainable(whisper, {}, [], Finetune(method="full"))
    fixed = {name for name, parameter in trained.named_parameters() if not parameter.requires_grad}
    assert fixed == {"model.encoder.embed_positions.weight"}


def test_the_merged_model_is_whole_again(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    layout = {name: type(module) for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # transformers' own, about a property that peft still reads.
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        tuned, _, _ = train(model, split, epochs=1)
        assert {name: type(module) for name, module in tuned.named_modules()} == layout
        assert all(parameter.requires_grad for parameter in tuned.parameters())
        assert not tuned.training
        train(tuned, split, epochs=1)  # and it can be adapted again


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(
    model: ASTForAudioClassification, split: FeatureSplit
) -> None:
    models = [copy.deepcopy(model) for _ in range(3)]
    torch.manual_seed(5)
    one, _, losses_one = train(models[0], split, seed=7)
    torch.manual_seed(6)
    state = torch.random.get_rng_state()
    two, _, losses_two = train(models[1], split, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    other, _, _ = train(models[2], split, seed=8)
    weights = [m.state_dict() for m in (one, two, other)]
    assert losses_one == losses_two
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["classifier.dense.weight"], weights[2]["classifier.dense.weight"])


def test_dropout_and_augmentation_are_on_while_training(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    plain = {"epochs": 1, "augment": None, "lora": {"dropout": 0.0}}
    no_dropout = copy.deepcopy(model)
    for module in no_dropout.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for layer in no_dropout.audio_spectrogram_transformer.layers:
        layer.attention.attention_dropout = 0.0
        layer.attention.dropout_prob = 0.0
    losses = {
        "config dropout": train(copy.deepcopy(model), split, **plain)[2],
        "none": train(no_dropout, split, **plain)[2],
        "augmented": train(copy.deepcopy(model), split, **plain | {"augment": Augment()})[2],
        "adapter dropout": train(copy.deepcopy(model), split, **plain | {"lora": {"dropout": 0.5}})[2],
    }
    assert len({loss[0].train_loss for loss in losses.values()}) == 4


def test_ranks_are_capped_and_keep_their_scaling(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    attention = model.audio_spectrogram_transformer.layers[0].attention
    attention.q_proj, attention.k_proj = nn.Linear(24, 6), nn.Linear(24, 6)
    names = projections_of(model)
    ranks = capped_ranks(names, 16)
    assert sorted(ranks.values()) == [6, 6, 16, 16, 16, 16, 16, 16]
    adapted, attached = attach(model, names, ["classifier"], Lora(rank=16, alpha=24.0))
    assert attached == ranks
    layers = dict(adapted.get_base_model().named_modules())
    for name, rank in ranks.items():
        assert layers[name].lora_A["default"].weight.shape[0] == rank
        assert layers[name].scaling["default"] == pytest.approx(1.5)
    merge(adapted)
    _, reported, _ = train(copy.deepcopy(_whole(model)), split, epochs=1, lora={"rank": 64})
    assert set(reported.values()) == {24}


def _whole(model: ASTForAudioClassification) -> ASTForAudioClassification:
    return ASTForAudioClassification(model.config)


def test_without_attention_the_classifier_is_left_to_train(
    model: ASTForAudioClassification, split: FeatureSplit
) -> None:
    before = copy.deepcopy(model.state_dict())
    tuned, ranks, losses = train(model, split, epochs=8, projections={})
    assert ranks == {}
    assert losses[-1].train_loss < losses[0].train_loss
    changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("classifier.")}
    assert all(parameter.requires_grad for parameter in tuned.parameters())
    assert not tuned.training


def test_names_that_only_look_alike_get_no_adapter() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict({"1": nn.ModuleDict({"q": nn.Linear(4, 4)})})
            self.decoder = nn.ModuleDict({"layers": nn.ModuleDict({"1": nn.ModuleDict({"q": nn.Linear(4, 4)})})})
            self.pre_classifier, self.classifier = nn.Linear(4, 4), nn.Linear(4, 4)

    net = Net()
    adapted, ranks = attach(net, {"layers.1.q": net.layers["1"]["q"]}, ["classifier"], Lora(rank=2))
    assert ranks == {"layers.1.q": 2}
    trained = {name for name, p in adapted.get_base_model().named_parameters() if p.requires_grad}
    assert trained == {
        "layers.1.q.lora_A.default.weight",
        "layers.1.q.lora_B.default.weight",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize("missing", ["projection", "classifier"])
def test_a_name_that_is_not_there_is_an_error(model: ASTForAudioClassification, missing: str) -> None:
    names: dict[str, nn.Linear] = projections_of(model)
    if missing == "projection":
        names["audio_spectrogram_transformer.layers.0.attention.query"] = next(iter(names.values()))
    with pytest.raises(SecateurError) as caught:
        attach(model, names, ["head" if missing == "classifier" else "classifier"], Lora())
    assert caught.value.code is ErrorCode.ENGINE_ERROR


def test_a_loss_that_is_not_finite_is_an_error(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    features = split.inputs["input_values"].copy()
    features[3, 0, 0] = np.inf
    with pytest.raises(SecateurError) as caught:
        train(model, FeatureSplit({"input_values": features}, split.targets), epochs=1)
    assert caught.value.code is ErrorCode.NUMERICAL


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_not_finite_is_found_at_the_next_look(broken: str) -> None:
    """As on a GPU, where a look comes every so many batches, and always before an epoch's loss is told."""
    good, bad = torch.tensor(1.5), torch.tensor(float("inf"))
    tracker = LossTracker(CPU, every=4)
    tracker.add(bad if broken == "loss" else good, bad if broken == "gradient" else good, 8)
    for _ in range(2):
        tracker.add(good, good, 8)
    with pytest.raises(SecateurError) as caught:
        tracker.add(good, good, 8)
    assert caught.value.code is ErrorCode.NUMERICAL
    late = LossTracker(CPU, every=100)
    late.add(good, bad, 8)
    late.add(good, good, 8)
    with pytest.raises(SecateurError):
        late.total()


def test_losses_are_summed_by_sample_and_told_once() -> None:
    tracker = LossTracker(CPU, every=2)
    for loss, samples in ((0.5, 10), (0.25, 10), (2.0, 3)):
        tracker.add(torch.tensor(loss), torch.tensor(1.0), samples)
    assert tracker.total() == pytest.approx(13.5)
    assert tracker.total() == 0.0


def test_several_labels_a_clip_are_learned_too(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    targets = nn.functional.one_hot(split.targets, CLASSES).float()
    _, _, losses = train(model, FeatureSplit({"input_values": split.inputs["input_values"]}, targets), epochs=16)
    assert losses[-1].train_loss < 0.5 * losses[0].train_loss


def test_the_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 20, 0.25) for step in range(20)]
    assert factors[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] > 0
    assert learning_rate_factor(0, 1, 0.9) == 1.0
