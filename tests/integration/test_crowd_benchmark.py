"""The benchmark of a full database, as small as it gets: every call is answered and timed, a page and JSON are written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gate import WHOLE


@pytest.mark.skipif(
    not WHOLE, reason="make test-all runs it: it shows that a benchmark runs, and nothing of the service"
)
def test_everything_is_asked_and_timed(tmp_path: Path) -> None:
    page = tmp_path / "crowd.md"
    command = [sys.executable, "-m", "benchmarks.crowd", "--jobs", "2000", "--repetitions", "2", "--label", "after"]
    done = subprocess.run([*command, "--write", str(page)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if all(call["met"] for call in found["calls"].values()) else 1)
    assert {call["kind"] for call in found["calls"].values()} == {"request", "worker", "periodic"}
    assert all(0 < call["ms"] <= call["wall_ms"] for call in found["calls"].values())
    assert found["rows"]["jobs"] == 2000
    assert json.loads(page.with_suffix(".json").read_text()) == {"after": found}
    assert "| deleting a job |" in page.read_text()
