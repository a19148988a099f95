"""The benchmark of padding on twelve short rows: what it counts, and the page of it."""

import pytest

from benchmarks import padding
from tests.unit.engine.tasks.uneven import LENGTHS, uneven
from worker.engine.data.split import PASS_COSTS


@pytest.mark.parametrize("name", ["classes", "written"])
def test_both_ways_are_counted_and_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padding, "BATCH", 6)
    monkeypatch.setitem(PASS_COSTS, "cpu", 4.0)
    small = uneven(name)
    found = padding.compare(padding.Case(small.model, small.task, small.split), 1)
    assert found["rows"] == len(LENGTHS)
    assert found["before"]["steps"] == found["before"]["passes"] == len(set(LENGTHS))
    assert (found["before"]["small"], found["before"]["filled"]) == (1.0, 0.0)
    assert (found["after"]["steps"], found["after"]["passes"], found["after"]["measured_passes"]) == (2, 2, 2)
    assert 0 < found["after"]["filled"] < 0.5
    # Texts of Whisper were filled up before where it is measured.
    assert found["before"]["measured_passes"] == (2 if name == "written" else len(set(LENGTHS)))
    page = padding.page({"machine": {"cores": 2}, "rounds": 1, "cases": {"short": found}})
    assert f"| short | 12 | {len(set(LENGTHS))} → 2 | 100% → 100% | {len(set(LENGTHS))} → 2 |" in page
