"""A step of one job as the model of the next: judged as an upload is, and the same model to the engine."""

import shutil
from pathlib import Path

import pytest

from checkpoints.file_names import checkpoint_names
from store.uploads.inspection.models.local import judge_folder
from tests.support.jobs.engine import run_job, steps_of

STOCK = {
    "pruning": {
        "preset": "paper",
        "target": {"attention_sparsity": 0.5},
        "granularity": "per_head",
        "layout": "stock",
        "schedule": {"steps": 1},
        "calibration": {"samples": 32, "split": "train"},
    },
    "finetune": None,
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None},
}


@pytest.mark.slow
def test_a_stock_step_is_an_original_of_its_own(tmp_path: Path) -> None:
    before = steps_of(run_job(tmp_path / "first", STOCK))[-1]
    step = tmp_path / "first" / "step-1"
    model = tmp_path / "model"
    model.mkdir()
    for name in checkpoint_names(path.name for path in step.iterdir()):
        shutil.copyfile(step / name, model / name)
    judged = judge_folder(model, 2**20).widths
    assert [(layer.qk, layer.vo) for layer in judged.layers] == [(layer.qk, layer.vo) for layer in before.widths.layers]

    original, after = steps_of(run_job(tmp_path / "second", STOCK, model=model))
    # The same weights, with the softmax scale that was folded into the queries: the same answers.
    assert original.validation.cross_entropy == pytest.approx(before.validation.cross_entropy, abs=1e-5)
    assert original.validation.accuracy == before.validation.accuracy
    assert original.achieved_sparsity == 0
    assert after.achieved_sparsity == pytest.approx(0.5, abs=0.05)
    assert after.size.attention_parameters == pytest.approx(before.size.attention_parameters / 2, rel=0.1)
