"""The benchmark of the API, as small as it gets: it ends, counts every stream, and its last line is JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gate import WHOLE


@pytest.mark.skipif(
    not WHOLE, reason="make test-all runs it: it shows that a benchmark runs, and nothing of the service"
)
def test_everything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "api.md"
    command = [sys.executable, "-m", "benchmarks.api", "--seconds", "0.2", "--gib", "0.01", "--streams", "12"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--out", str(page)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if all(found["goals"].values()) else 1)
    assert set(found["goals"]) == {"polling", "p99", "transfer", "growth", "streams", "neighbour", "health"}
    assert found["streams"]["reached"] == 12
    assert min(found[kind][name]["per_second"] for kind in ("poll", "submit") for name in ("ours", "bare")) > 0
    assert found["poll"]["throughput"] == found["poll"]["ours"]["per_second"] / found["poll"]["bare"]["per_second"]
    assert "| polls per second |" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text()) == found
