"""`make demo` on a model and data that are given, with a short job: to its end, and what it says when it cannot begin."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.support.checkpoints.tiny import some_data, tiny_model

ROOT = Path(__file__).parents[2]
MEASURED = {"attention removed", "FLOPs per clip", "file"}


def demo(folder, **variables):
    given = {"DEMO_MODEL": str(tiny_model()), "DEMO_DATA": str(some_data()), "DEMO_CLIPS": "20", "DEMO_SPARSITY": "0.1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECATEUR_ENGINE_THREADS": "1", **given, **variables}
    command = [sys.executable, "-m", "demo.run"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_goes_to_its_end(tmp_path):
    done = demo(tmp_path, DEMO_EPOCHS="1", DEMO_LEARNING_RATE="1e-3", DEMO_CONTROL="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Downloaded step 1" in done.stdout
    assert "The service and all its processes have stopped." in done.stdout
    for name in MEASURED:
        assert name in done.stdout
    assert "<svg" in (tmp_path / ".demo" / "report.html").read_text(encoding="utf-8")
    job = re.search(r"secateur up --data-dir .demo/service, then http://127.0.0.1:8000/jobs/(job_\w+)", done.stdout)
    assert job is not None, done.stdout
    kept = sqlite3.connect(next((tmp_path / ".demo" / "service").glob("*.db")))
    assert kept.execute("select state from jobs where id = ?", [job[1]]).fetchall() == [("succeeded",)]
    for noise in ("it/s", "Warning", "Loading weights", "Writing model shards"):
        assert noise not in done.stdout + done.stderr
    models = json.loads((tmp_path / ".demo" / "result.json").read_text())["models"]
    assert [model["title"] for model in models] == ["before", "pruned"]
    assert models[1]["metrics"]["achieved_sparsity"] > 0.05
    assert models[1]["fresh"]["samples"] == 20


def test_a_number_that_is_none_is_said_so_before_anything_starts(tmp_path):
    done = demo(tmp_path, DEMO_SPARSITY="half")
    assert done.returncode == 1
    assert "DEMO_SPARSITY is 'half', which is not a number." in done.stdout
    assert "The service runs" not in done.stdout
