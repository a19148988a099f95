"""A tiny model and data to recover on, and one way to call `finetune`."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification

from api_schemas.results.metrics import EpochLoss, UnfinishedEpoch
from api_schemas.spec.recovery import Finetune
from worker.engine.data.split import FeatureSplit
from worker.engine.recovery import CheckpointSettings, Teacher, finetune
from worker.engine.tasks import Classification

CLASSES, FRAMES, MELS = 3, 16, 16


@pytest.fixture
def model() -> ASTForAudioClassification:
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
        max_length=FRAMES,
        num_mel_bins=MELS,
        num_labels=CLASSES,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    return ASTForAudioClassification(config).eval()


@pytest.fixture(scope="session")
def split() -> FeatureSplit:
    """Three classes that differ in which third of the mel bins is loud."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % CLASSES
    features = random.normal(size=(48, FRAMES, MELS)).astype(np.float32)
    for row, label in enumerate(labels):
        features[row, :, 5 * label : 5 * label + 5] += 1.5
    return FeatureSplit({"input_values": features}, torch.from_numpy(labels))


def projections_of(model: nn.Module) -> dict[str, nn.Linear]:
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.search(r"attention\..*", n)}
    assert len(found) == 8
    return found


def train(
    model: ASTForAudioClassification,
    split: FeatureSplit,
    seed: int = 1,
    teacher: Teacher | None = None,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] = lambda *_: None,
    on_points: Callable[[UnfinishedEpoch], None] = lambda _: None,
    projections: dict[str, nn.Linear] | None = None,
    microbatch: int | None = None,
    checkpointing: CheckpointSettings | None = None,
    **changes: object,
) -> tuple[ASTForAudioClassification, dict[str, int], list[EpochLoss]]:
    losses: list[EpochLoss] = []
    spec = Finetune.model_validate({"epochs": 3, "learning_rate": 3e-3, "batch_size": 10, **changes})
    tuned, ranks = finetune(
        model,
        split,
        spec,
        projections=projections_of(model) if projections is None else projections,
        classifiers=["classifier"],
        task=Classification(several=split.targets.ndim == 2),
        pad_value=-1.0,
        seed=seed,
        device=device or torch.device("cpu"),
        on_batch=on_batch,
        on_epoch=losses.append,
        on_points=on_points,
        teacher=teacher,
        microbatch=microbatch,
        checkpointing=checkpointing,
    )
    return tuned, ranks, losses
