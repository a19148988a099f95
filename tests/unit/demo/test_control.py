"""The control of the demo: measured once, and again where anything that it depends on is another."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo import control, inputs
from demo.control import Given
from demo.results import Outcome
from tests.support.jobs.records import step_metrics


def test_it_is_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    outcome = Outcome("control", step_metrics(1), {"accuracy": 0.5, "samples": 20})
    asked: list[int] = []

    def measure() -> Outcome:
        asked.append(1)
        return outcome

    said = StringIO()
    given = Given("model-1", "keywords-1", {"sparsity": 0.5}, 500, {})
    found = [control.control(given, measure, Console(file=said)) for _ in range(2)]
    assert found == [outcome, outcome]
    assert len(asked) == 1
    assert "earlier run" in said.getvalue()
    for other in (
        {"model": "model-2"},
        {"request": {"sparsity": 0.25}},
        {"settings": {"SECATEUR_ENGINE_THREADS": "2"}},
    ):
        control.control(replace(given, **other), measure, Console(file=said))
    assert len(asked) == 4
    monkeypatch.setattr(control, "_LIBRARIES", ("torch",))
    control.control(given, measure, Console(file=said))
    assert len(asked) == 5


def test_the_score_before_is_measured_once_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    asked: list[int] = []

    def measure() -> dict[str, Any]:
        asked.append(1)
        return {"accuracy": 0.5, "samples": len(asked)}

    for given in (("model-1", 500), ("model-1", 500), ("model-2", 500), ("model-1", 400)):
        found = control.kept_score(given[0], "keywords-1", given[1], measure)
    assert found == {"accuracy": 0.5, "samples": 3}
    assert control.kept_score("model-1", "keywords-1", 500, measure)["samples"] == 1
    monkeypatch.setattr(control, "_LIBRARIES", ("torch",))
    assert control.kept_score("model-1", "keywords-1", 500, measure)["samples"] == 4
