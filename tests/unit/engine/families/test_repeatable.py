"""Training while the engine has the model: no masks out of a generator that nobody seeds, no layers left out."""

import json

import numpy as np
import pytest
import torch

from benchmarks.families import reference
from benchmarks.families.tiny_models import IMAGES, WAVEFORMS
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout"), 0.0
)
MASKS = {
    "mask_time_prob": 0.5,
    "mask_time_length": 2,
    "mask_feature_prob": 0.5,
    "mask_feature_length": 2,
    "layerdrop": 0.9,
}


@pytest.mark.parametrize("tiny", [tiny for tiny in WAVEFORMS if not tiny.variant], ids=lambda tiny: tiny.id)
def test_what_is_trained_is_the_whole_model(tiny, tmp_path):
    stock = tiny.stock(**NO_DROPOUT, **MASKS)
    loaded, inputs = load_original(tiny.save(stock, tmp_path / "original")), tiny.inputs(3)
    with torch.no_grad():
        expected = reference.answer(stock, inputs)
        answers = []
        for model in (stock.train(), loaded.model.train()):
            np.random.seed(0)
            torch.manual_seed(0)
            answers.append(reference.answer(model, inputs))
    assert (answers[0] - expected).abs().max() > 1e-2, "the stock model masks nothing"
    reference.assert_near(answers[1], expected)
    save_checkpoint(tmp_path / "step", loaded, tmp_path / "original")
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("original", "step"))
    assert {key: after.get(key) for key in MASKS} == MASKS
    assert after.get("apply_spec_augment") == before.get("apply_spec_augment")


def test_positions_stay_where_they_are(tmp_path):
    """DINOv3 moves, stretches and scales those of patches in training, alike for all samples of a batch."""
    moved = {"pos_embed_shift": 0.5, "pos_embed_jitter": 2.0, "pos_embed_rescale": 4.0}
    tiny = next(tiny for tiny in IMAGES if tiny.name == "DINOv3ViTModel")
    stock = tiny.stock(**moved)
    loaded, inputs = load_original(tiny.save(stock, tmp_path / "original")), tiny.inputs(2)
    with torch.no_grad():
        expected = reference.answer(stock, inputs)
        assert (reference.answer(stock.train(), inputs) - expected).abs().max() > 1e-2, "the stock model moves nothing"
        reference.assert_near(reference.answer(loaded.model.train(), inputs), expected)
    save_checkpoint(tmp_path / "step", loaded, tmp_path / "original")
    assert json.loads((tmp_path / "step" / "config.json").read_text()).items() >= moved.items()
