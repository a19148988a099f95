"""`secateur prune` as a user runs it: the real command, the real engine, a trained model."""

import json
import subprocess
import sys
from pathlib import Path

from api_schemas.results.metrics import StepMetrics
from tests.support.checkpoints.tiny import tiny_data, tiny_model


def secateur(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secateur", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_result_is_smaller_and_loads_in_stock_transformers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--sparsity", "0.5", "--steps", "1", "--epochs", "0", "--threads", "1"]
    done = secateur("prune", tiny_model(), "--data", tiny_data(), "--out", out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1/1 pruning" in done.stderr
    assert str(out / "step-1") in done.stdout

    score = Path(__file__).parents[3] / "demo" / "score.py"
    command = [sys.executable, "-I", str(score), str(out / "step-1"), str(tiny_data())]
    scored = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    (metrics,) = json.loads((out / "step-1" / "metrics.json").read_text())["steps"][1:]
    step = StepMetrics.model_validate(metrics)
    assert step.test is not None
    assert scored["accuracy"] == step.test.accuracy
    assert scored["parameters"] == step.size.total_parameters


def test_a_failure_ends_with_status_3_its_code_and_the_log(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--preset", "paper", "--sparsity", "0.99", "--threads", "1"]
    done = secateur("prune", tiny_model(), "--data", tiny_data(), "--out", out, *options)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "sparsity_out_of_reach" in done.stderr
    assert str(out / "engine.log") in done.stderr
    assert not list(out.glob("step-*"))
