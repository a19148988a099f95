"""The page of the recovery benchmark, from runs that are there: rates by validation, means over seeds, paired points."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from api_schemas.enums import FinetuneMethod
from benchmarks.race.evaluation import Predictions
from benchmarks.recovery import Runs, best_rate, page

CUT = "FLOPs 75%"


def answers(right: int) -> dict[str, Any]:
    """Of ten clips so many are right, first to last."""
    return Predictions.of(np.arange(10) < right, 1.0).model_dump()


def runs(folder: Path, kept: dict[str, int]) -> Runs:
    (folder / "recovery.json").write_text(
        json.dumps({name: {"validation": answers(right)} for name, right in kept.items()})
    )
    setup: Any = SimpleNamespace(device=torch.device("cpu"))
    return Runs(folder / "recovery.json", setup, test=False)


def test_the_rate_that_does_best_on_validation_and_every_seed_with_it(tmp_path: Path) -> None:
    kept = {f"{CUT}, as cut, seed {seed}": 4 for seed in (0, 1)}
    kept |= {f"{CUT}, lora, 0.5, {rate}, seed 0": right for rate, right in (("0.0003", 5), ("0.001", 7), ("0.003", 6))}
    kept |= {
        f"{CUT}, lora, 0.5, 0.001, seed 1": 9,
        f"{CUT}, lora, 1, 0.001, seed 0": 10,
        f"{CUT}, lora, 1, 0.001, seed 1": 10,
    }
    written = page(runs(tmp_path, kept))
    assert "| lora | 0.5 | 0.001 | 2 | 80.00 |" in written
    assert "| lora | 1 | 0.001 | 2 | 100.00 | +20.00 (" in written
    assert "| as cut |  |  | 2 | 40.00 | -40.00 (" in written
    assert "lora 0.0003: 50.00; lora 0.001: 70.00; lora 0.003: 60.00" in written
    assert "93.75" not in written, "nothing was run of the other cut"


def test_without_rates_there_is_nothing_to_go_by(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--rates"):
        best_rate(runs(tmp_path, {}), CUT, FinetuneMethod.FULL)
