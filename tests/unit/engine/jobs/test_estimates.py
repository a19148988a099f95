"""Estimated sizes against models that are really cut: specs drawn by seed, three families, every step written to a file."""

import random

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from api_schemas.enums import Granularity
from api_schemas.errors import SecateurError
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import describe_folder
from checkpoints.planning.estimates import estimated_steps
from checkpoints.planning.feasibility import check_feasible
from checkpoints.sizes import accounting
from tests.families.folders import model_folder
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.pruning.cutting import Cutting

MODELS = ("ASTForAudioClassification", "WhisperForConditionalGeneration", "WavLMForSequenceClassification")
SPECS_EACH = 8
WITHIN = 0.1


def drawn(described, seed):
    """Specs that the model can meet, scored without data."""
    chance = random.Random(seed)
    while True:
        kind = chance.choice(["attention_sparsity", "ffn_sparsity", "parameters", "flops"])
        body = {
            "target": {kind: round(chance.uniform(0.05, 0.8), 2)},
            "granularity": chance.choice([each.value for each in Granularity]),
            "criterion": chance.choice(["magnitude", "random"]),
            "scope": chance.choice(["global", "local"]),
            "balance": chance.choice(["joint", "equal"]),
            "align": chance.choice([1, 8]),
            "min_heads": chance.choice([0, 1]),
            "basis": "native",
            "compensation": "none",
            "schedule": {"steps": chance.choice([1, 2, 3]), "shape": chance.choice(["linear", "cubic"])},
        }
        if kind in ("parameters", "flops"):
            body["parts"] = chance.choice([["attention"], ["feed_forward"], ["attention", "feed_forward"]])
        try:
            spec = EngineSpec.model_validate({"pruning": body, "finetune": None})
            check_feasible(described.shape, described.widths, spec.pruning)
        except (ValidationError, SecateurError):
            continue
        yield spec


@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_within_a_tenth_of_what_is_cut(name, tmp_path):
    folder = model_folder(name)
    described = describe_folder(folder)
    specs = drawn(described, seed=12)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    for number in range(SPECS_EACH):
        spec = next(specs)
        original, *steps = estimated_steps(described.shape, spec.pruning, weights)
        assert original.file_bytes == weights
        cutting = Cutting(spec, described, None, None, torch.device("cpu"), None)
        loaded = load_original(folder)
        for step in steps:
            loaded, _ = cutting.prune(cutting.score(loaded, step.step), step.requested)
            out = tmp_path / f"{number}-{step.step}"
            save_checkpoint(out, loaded, folder)
            file = out / "model.safetensors"
            measured = {
                "total_parameters": sum(tensor.numel() for tensor in load_file(file).values()),
                "flops": accounting.total_flops(described.shape, loaded.widths),
                "file_bytes": file.stat().st_size,
            }
            for field, value in measured.items():
                assert getattr(step, field) == pytest.approx(value, rel=WITHIN), (field, spec.pruning, step)
            achieved = accounting.attention_sparsity(described.shape, loaded.widths)
            assert step.attention_sparsity == pytest.approx(achieved, abs=WITHIN), (spec.pruning, step)
