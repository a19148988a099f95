"""A setup of random numbers: a small model, a few samples, and labels that the model gets mostly right."""

from pathlib import Path

import torch
from transformers import ASTForAudioClassification

from api_schemas.enums import Split
from api_schemas.results.metrics import DataSummary
from benchmarks.race.setup import Setup
from checkpoints.describe import describe_folder
from tests.unit.engine.small import CLASSES, inputs, small_config, small_model
from worker.engine.data import FeatureSplit, PreparedData

SAMPLES = {Split.TRAIN: 24, Split.VALIDATION: 16, Split.TEST: 20}


def small_setup(folder: Path, calibration: int = 12) -> Setup:
    """`folder` gets the model as a stock checkpoint, for those who read it themselves."""
    loaded = small_model()
    stock = ASTForAudioClassification(small_config())
    stock.load_state_dict(loaded.model.state_dict())
    stock.save_pretrained(folder)
    splits = {}
    for seed, (role, samples) in enumerate(SAMPLES.items()):
        features = inputs(samples, seed)
        with torch.no_grad():
            targets = loaded.model(features).logits.argmax(dim=1)
        targets[::3] = (targets[::3] + 1) % CLASSES
        splits[role] = FeatureSplit({"input_values": features.numpy()}, targets.clone())
    described = describe_folder(folder)
    summary = DataSummary(samples={role.value: count for role, count in SAMPLES.items()})
    data = PreparedData(summary, splits, pad_value=0.0)
    return Setup(folder, described, loaded, data, torch.device("cpu"), calibration, {"calibration": calibration})
