"""A whole job by two processes: what one process makes of it, and the same bits whenever it is interrupted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from api_schemas.results.events import ENGINE_EVENT, EngineEvent, StepDone
from tests.support.gate import WHOLE
from tests.support.jobs.engine import identity, run_job, steps_of

ROOT = Path(__file__).parents[4]
SPEC: dict[str, Any] = {
    "pruning": {
        "preset": "best", "target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1},
        # The last batch has one sample, and so one process none.
        "calibration": {"samples": 17, "refit_samples": 17, "split": "train", "labels": "model"},
    },
    "finetune": {
        "epochs": 2, "batch_size": 15, "distill": {"weight": 0.5, "attention": 0.1}, "lora": {"dropout": 0.0},
        "augment": {},
    },
    "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None},
    "seed": 3,
}  # fmt: skip


def run_together(out: Path, spec: dict[str, Any], **options: Any) -> list[EngineEvent]:
    """What was said, by one of them alone."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.jobs.several_processes", "2", out, json.dumps(spec), json.dumps(options)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == (9 if "kill_after_epoch" in options else 0), done.stderr
    return [ENGINE_EVENT.validate_json(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EngineEvent]]:
    out = tmp_path_factory.mktemp("together")
    return out, run_together(out, SPEC, cache=str(out / "cache"))


def test_two_processes_make_what_one_makes(together: tuple[Path, list[EngineEvent]], tmp_path: Path) -> None:
    out, said = together
    alone = run_job(tmp_path, SPEC, fresh_process=False)
    ours, theirs = steps_of(said), steps_of(alone)
    assert [event.type for event in said if isinstance(event, StepDone)] == ["step", "step"]
    records = [json.loads((folder / "step-1" / "pruning.json").read_bytes()) for folder in (out, tmp_path)]
    assert records[0]["kept"] == records[1]["kept"]
    weights = [load_file(folder / "step-1" / "model.safetensors") for folder in (out, tmp_path)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert one.widths == other.widths
        assert one.validation.accuracy == other.validation.accuracy
        assert one.validation.samples == other.validation.samples
        assert one.validation.cross_entropy == pytest.approx(other.validation.cross_entropy, abs=1e-5)
        assert [loss.train_loss for loss in one.losses] == pytest.approx(
            [loss.train_loss for loss in other.losses], abs=1e-5
        )
        for loss, theirs_alone in zip(one.losses, other.losses, strict=True):
            assert len(loss.points) > 1
            assert loss.points == pytest.approx(theirs_alone.points, abs=1e-4)


@pytest.mark.skipif(not WHOLE, reason="two more processes; test_kept_results.py has one")
def test_what_an_earlier_job_left_is_found_by_one_and_told_to_all(
    together: tuple[Path, list[EngineEvent]], tmp_path: Path
) -> None:
    out, said = together
    again = run_together(tmp_path, SPEC, cache=str(out / "cache"))
    assert [step.reused for step in steps_of(said)] == [(), ()]
    assert [step.reused for step in steps_of(again)] == [("inputs", "validation", "test"), ("statistics",)]
    assert identity(tmp_path / "step-1") == identity(out / "step-1")


@pytest.mark.skipif(not WHOLE, reason="three whole jobs; tests/faults kills real ones")
def test_gone_on_with_after_an_epoch_they_come_to_the_same_bits(tmp_path: Path) -> None:
    """With dropout, of which each process draws its own."""
    spec = {**SPEC, "finetune": {**SPEC["finetune"], "lora": {"dropout": 0.2}}}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_together(whole, spec)
    run_together(killed, spec, training_seconds=0.0, kill_after_epoch=1)
    assert not (killed / "step-1").exists()
    [saved] = (killed / "training").iterdir()
    run_together(killed, spec, resume=0, training=str(saved))
    assert identity(killed / "step-1") == identity(whole / "step-1")
