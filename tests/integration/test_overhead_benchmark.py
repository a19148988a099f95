"""The benchmark of a job's overhead, as small as it gets: it ends, its parts add up, and a page and JSON are written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.gate import WHOLE


@pytest.mark.skipif(
    not WHOLE, reason="make test-all runs it: it shows that a benchmark runs, and nothing of the service"
)
def test_everything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "overhead.md"
    earlier = tmp_path / "overhead.json"
    command = [sys.executable, "-m", "benchmarks.overhead", "--model", str(tiny_model()), "--data", str(tiny_data())]
    options = ["--steps", "1", "--epochs", "1", "--submits", "1", "--write", str(page), "--label"]
    done = subprocess.run([*command, *options, "before"], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if all(found["goals"].values()) else 1)
    assert json.loads(earlier.read_text()) == {"before": found}
    for name in ("service", "engine"):
        run = found[name]
        assert sum(run["parts"].values()) == pytest.approx(run["wall"], abs=0.05)
        assert min(run["parts"].values()) >= 0
        assert 0 < run["own"] < run["wall"]
        assert {"preparing", "scoring", "finetuning", "packaging"} <= set(run["phases"])
    assert set(found["service"]["phases"]) >= set(found["engine"]["phases"])
    assert 0 < found["first_event"]["recorded"] <= found["first_event"]["seen"]
    assert "## before" in page.read_text()
