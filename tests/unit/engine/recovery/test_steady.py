"""Recovery of models that are restless in training: the same seed is the same training, whatever else draws numbers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from api_schemas.recovery import Distill
from tests.unit.engine.tasks.models import clap, ctc, spell
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.recovery import Teacher, finetune
from worker.engine.recovery.steady import steady
from worker.engine.tasks.ctc import Ctc

from .conftest import Finetune

SPEC = Finetune(epochs=2, batch_size=3, learning_rate=1e-2, distill=Distill(weight=0.5, attention=0.1))
OUTPUTS = ("wav2vec2.encoder.layers.0.attention.out_proj",)


def speech() -> FeatureSplit:
    """Clips of two lengths."""
    random = np.random.default_rng(0)
    sounds = Ragged.of([random.normal(size=200 + 50 * (row % 2)).astype(np.float32) for row in range(8)])
    return FeatureSplit({"input_values": sounds}, Ragged.of([random.integers(1, 6, 3 + row % 3) for row in range(8)]))


def restless() -> PreTrainedModel:
    model = ctc()
    model.config.update({"layerdrop": 0.9, "mask_time_prob": 0.9, "mask_time_length": 2, "apply_spec_augment": True})
    return model


def recovered(numpy_seed: int) -> tuple[PreTrainedModel, float]:
    np.random.seed(numpy_seed)
    model = restless()
    projections = {name: m for name, m in model.named_modules() if name.endswith(("q_proj", "out_proj"))}
    losses: list[float] = []
    tuned, _ = finetune(
        copy.deepcopy(model),
        speech(),
        SPEC,
        projections=projections,
        classifiers=["lm_head"],
        task=Ctc(blank=0, decode=spell),
        pad_value=0.0,
        seed=1,
        device=torch.device("cpu"),
        on_batch=lambda *_: None,
        on_epoch=lambda epoch: losses.append(epoch.train_loss),
        teacher=Teacher(model, OUTPUTS),
    )
    assert tuned.config.apply_spec_augment
    assert tuned.config.layerdrop == 0.9
    return tuned, losses[-1]


def test_a_recovery_depends_on_its_seed_alone() -> None:
    """Nor does it fall over a layer that was dropped while a teacher's was not."""
    (one, loss), (other, again) = recovered(0), recovered(1)
    assert loss == again
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_samples_do_not_see_each_other() -> None:
    """A batch norm's own statistics stay as they were, and a batch in parts gives what it gives whole."""
    model = clap().train()
    for module in model.modules():
        for rate in ("p", "drop_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    features = torch.randn(2, 1, 64, 8, generator=torch.Generator().manual_seed(0))
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    before = copy.deepcopy(norm.state_dict())
    with steady(model):
        together = model(input_features=features).audio_embeds
        apart = torch.cat([model(input_features=part).audio_embeds for part in features.split(1)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
    assert norm.training
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    seen = torch.cat([model(input_features=part).audio_embeds for part in features.split(1)])
    assert (seen - together).abs().max() > 1e-2


@pytest.mark.parametrize("mode", [True, False])
def test_a_model_in_evaluation_stays_in_it(mode: bool) -> None:
    model = clap().train(mode)
    with steady(model):
        assert model.training is mode
    assert all(module.training is mode for module in model.modules())
