"""The benchmark of first estimates: what it keeps of a job is not run again, and its page says what lies outside."""

import json
from pathlib import Path
from typing import Any

import pytest

from api_schemas.spec.job import EngineSpec
from benchmarks.estimates import __main__ as program
from benchmarks.estimates.cases import ONE_SHOT, Case, cases, clip_share, token_share
from benchmarks.estimates.page import page
from benchmarks.estimates.runs import Load
from checkpoints.sizes.device_speed import DeviceSpeed
from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.unit.store.jobs.workers.test_device_speeds import speed


def kept(folder: Path, case: Case, processor: float) -> None:
    spent = {"wall": 5 * processor, "processor": processor}
    took = {"total": spent, "phases": {"outside": spent}, "load": 2.0}
    samples = {"train": 128, "validation": 24, "test": 24}
    program.kept_of(case, folder).write_text(json.dumps({**took, "samples": samples}))


@pytest.mark.parametrize(("processor", "inside"), [(60.0, True), (0.2, False)])
def test_a_job_that_is_kept_is_estimated_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: float, inside: bool
) -> None:
    monkeypatch.setattr(program, "run", lambda *_: pytest.fail("it is there"))
    case = Case("AST, one cut: 1", False, lambda _: (tiny_model(), some_data()), ONE_SHOT)
    kept(tmp_path, case, processor)
    assert program.kept_of(case, tmp_path).name == "AST-one-cut-1.json"
    device = DeviceSpeed.model_validate(speed(1e-9).model_dump() | {"host_call": 2e-4})
    row = program.one(case, tmp_path, device)
    assert (row["took"], row["processor"], row["inside"]) == (processor / 2, processor, inside)
    assert row["low"] < row["high"]
    assert row["phases"]["starting"]["took"] == processor / 2


def test_the_page_says_what_lies_outside() -> None:
    def row(name: str, low: float, high: float, took: float, *, fitted: bool) -> dict[str, Any]:
        phases = {"scoring": {"said": (low, high), "took": took}, "pruning": {"said": None, "took": 0.0}}
        more = {"processor": 2 * took, "wall": 9 * took, "load": 2.0, "inside": low <= took <= high, "phases": phases}
        return {"name": name, "fitted": fitted, "low": low, "high": high, "took": took, **more}

    rows = [row("one", 10, 40, 20, fitted=True), row("two", 10, 35, 36, fitted=False)]
    text = page({"command": "python -m it", "rows": rows, "speed": speed(1e-4).model_dump(), "not_run": ["three"]})
    assert "Not run yet: three." in text
    assert "| one | yes | 10 to 40 | 4.0 | 20 | yes | 40 | 2.00 | 180 |" in text
    assert "| two |  | 10 to 35 | 3.5 | 36 | **no** |" in text
    assert "1 of 2 jobs took a time inside their range; of the 1 that no constant was set by, 0." in text
    assert "| 10.0 to 40.0 (20.0) |" in text


def test_cases_are_specs_of_the_engine(tmp_path: Path) -> None:
    found = cases((tiny_model(), some_data()), (tiny_model(), some_data()), tmp_path)
    assert all(isinstance(case.engine_spec, EngineSpec) for case in found)
    assert len({case.name for case in found}) == len(found)
    assert {case.fitted for case in found} == {True, False}
    assert token_share((10, 50)) == (32 / 128, 32 / 128)
    assert clip_share(2.5) == (0.5, 0.5)


def test_the_load_is_how_much_longer_a_piece_of_work_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load()
    times = iter([4.0, 1.0] + [2.0] * 1000)
    monkeypatch.setattr(load, "_timed", lambda: next(times))
    monkeypatch.setattr(Load, "FASTEST", [])
    load.start()
    assert load.stop() == 2.0
