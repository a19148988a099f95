"""The page says of each form of a cut model whether it came to what was aimed at."""

from typing import Any

import pytest

from benchmarks.eight_bits import DENSE, FLOAT32, FORMS, page

CUT = "75% of FLOPs removed"


def results(speed: float, stored: int, points: float) -> dict[str, Any]:
    """Of a model whose eight bits are all alike, beside a dense one of 600 bytes."""
    machine = {"processor": "abacus"}
    time = [
        {
            "model": model,
            "form": form,
            "bytes": 600 if form == FLOAT32 else stored,
            "batch 1": [speed] * 3,
            "batch 8": [9.0] * 3,
        }
        for model in (DENSE, CUT)
        for form in FORMS
    ]
    accuracy = [
        {
            "model": row["model"], "form": row["form"], "bytes": row["bytes"],
            "validation": {"accuracy": 90.0, "points": [points, -3.0, 3.0]},
        }
        for row in time
    ]  # fmt: skip
    return {
        "time": {"shape": "base", "rows": time, "machine": machine},
        "accuracy": {"rows": accuracy, "machine": machine},
    }


@pytest.mark.parametrize(
    ("speed", "stored", "points", "met"),
    [(4.0, 100, -1.0, "yes"), (3.9, 100, -1.0, "no"), (4.0, 101, -1.0, "no"), (4.0, 100, -1.1, "no")],
)
def test_all_three_goals_have_to_be_met(speed: float, stored: int, points: float, met: str) -> None:
    last = page(results(speed, stored, points)).partition("## Goals")[2].strip().splitlines()
    rows = [row for row in last if row.startswith(f"| {CUT}")]
    assert len(rows) == len(FORMS) - 1
    assert all(row.endswith(f"| {met} |") for row in rows)


def test_half_of_the_measurements_is_half_a_page() -> None:
    whole = results(4.0, 100, 0.0)
    assert "## Time and size" in page({"time": whole["time"]})
    assert "Goals" not in page({"time": whole["time"]})
    assert "| validation | points |" in page({"accuracy": whole["accuracy"]})
