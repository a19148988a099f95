"""Whole jobs of the engine beyond the paper's method: the best preset, and a target in milliseconds."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.jobs.engine import failed_job, identity, run_job, steps_of
from worker.engine.latency.table import LATENCY_FILE, read_latency_table

QUICK = {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None}


def _accuracy(out: Path, step: int) -> float:
    return float(
        json.loads((out / f"step-{step}" / "metrics.json").read_text())["steps"][step]["validation"]["accuracy"]
    )


def test_without_training_best_keeps_what_the_papers_method_loses(tmp_path: Path) -> None:
    reached = {}
    for preset in ("best", "paper"):
        spec = {
            "pruning": {"preset": preset, "target": {"attention_sparsity": 0.72}, "schedule": {"steps": 1},
                        "calibration": {"split": "train", "samples": 256}},
            "finetune": None, "evaluate": QUICK,
        }  # fmt: skip
        run_job(tmp_path / preset, spec)
        reached[preset] = _accuracy(tmp_path / preset, 1)
        dense = _accuracy(tmp_path / preset, 0)
    assert reached["best"] > reached["paper"]
    assert reached["best"] > dense - 0.1


def test_widths_that_are_left_to_the_model_are_multiples_where_it_is_wide_enough(tmp_path: Path) -> None:
    """The spec says null: the engine settles it, as the service does for a model that it knows."""
    pruning = {"target": {"ffn_sparsity": 0.3}, "schedule": {"steps": 1}, "calibration": {"samples": 16}}
    dense, cut = steps_of(run_job(tmp_path, {"pruning": pruning, "finetune": None, "evaluate": QUICK}))
    before, after = dense.widths.feed_forward, cut.widths.feed_forward
    assert min(before) >= 32
    assert all(neurons % 4 == 0 for neurons in after)
    assert sum(after) < sum(before)


def test_best_in_steps_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    spec = {
        "pruning": {"target": {"attention_sparsity": 0.9}, "schedule": {"steps": 2, "shape": "cubic"},
                    "calibration": {"samples": 64}},
        "finetune": {"epochs": 1}, "evaluate": {**QUICK, "sensitivity_samples": 16}, "seed": 5,
    }  # fmt: skip
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    said = run_job(whole, spec)
    shutil.copytree(whole / "step-1", resumed / "step-1")
    run_job(resumed, spec, resume=1)
    assert identity(whole / "step-2") == identity(resumed / "step-2")
    achieved = [metrics.achieved_sparsity for metrics in steps_of(said)]
    assert achieved == pytest.approx([0.0, 0.9 * (1 - 0.5**3), 0.9], abs=0.01)


def test_recovery_that_does_harm_is_not_kept_where_the_spec_says_so(tmp_path: Path) -> None:
    pruning = {"preset": "paper", "target": {"attention_sparsity": 0.25}, "schedule": {"steps": 1}}
    # Steps far too long: this trains the model to pieces.
    harm = {"epochs": 1, "learning_rate": 0.05}
    found = {}
    for name, finetune in (("none", None), ("always", harm), ("better", {**harm, "only_if_better": True})):
        spec = {"pruning": pruning, "finetune": finetune, "evaluate": QUICK}
        found[name] = steps_of(run_job(tmp_path / name, spec))[-1]
    none, always, better = found["none"], found["always"], found["better"]
    assert always.validation.accuracy < none.validation.accuracy
    assert always.rejected_recovery is None
    assert always.lora_ranks
    assert better.validation == none.validation
    assert better.rejected_recovery.accuracy == always.validation.accuracy
    assert (len(better.losses), better.lora_ranks) == (1, {})
    weights = [(tmp_path / name / "step-1" / "model.safetensors").read_bytes() for name in ("none", "better")]
    assert weights[0] == weights[1]
    report = (tmp_path / "better" / "step-1" / "report.html").read_text()
    assert "worse than without, so recovery was not kept" in report
    assert "unless validation was better without" in report


def test_a_latency_target_is_looked_up_in_one_table_also_after_resuming(tmp_path: Path) -> None:
    spec = {
        "pruning": {"target": {"latency": 0.2}, "parts": ["attention", "feed_forward"], "granularity": "entire_head",
                    "schedule": {"steps": 2}, "calibration": {"samples": 32}},
        "finetune": None, "evaluate": QUICK,
    }  # fmt: skip
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    done = steps_of(run_job(whole, spec))
    table = (whole / "step-0" / LATENCY_FILE).read_bytes()
    assert all((whole / f"step-{metrics.step}" / LATENCY_FILE).read_bytes() == table for metrics in done)
    last = done[-1]
    assert last.target is not None
    assert (last.target.kind, last.target.requested) == ("latency", 0.2)
    assert 0 < last.achieved_sparsity + last.ffn_sparsity < 2
    assert read_latency_table(whole / "step-0").neurons
    if len(done) == 3:
        shutil.copytree(whole / "step-1", resumed / "step-1")
        run_job(resumed, spec, resume=1)
        assert identity(whole / "step-2") == identity(resumed / "step-2")


def test_a_latency_out_of_reach_fails_with_what_can_be_saved(tmp_path: Path) -> None:
    spec = {"pruning": {"target": {"latency": 0.55}, "granularity": "entire_head"}, "finetune": None, "evaluate": QUICK}
    failed = failed_job(tmp_path, spec)
    assert failed.code == "sparsity_out_of_reach"
    assert failed.errors[0].pointer == "/pruning/target/latency"
