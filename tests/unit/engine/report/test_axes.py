"""Axes of the report's figures: a small difference looks small."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from api_schemas.results.metrics import Scores, StepMetrics
from worker.engine.report import write_report
from worker.engine.report.style import covering

from .conftest import ARCHITECTURE, Job


def _numbers_on_the_axis(folder: Path, figure: str) -> list[float]:
    """Of the y axis of the figure's first plot."""
    root = ElementTree.parse(folder / f"figure-{figure}.svg").getroot()
    [axis] = [element for element in root.iter() if element.get("id") == "matplotlib.axis_2"]
    return [float((text.text or "").replace("−", "-")) for text in axis.iter() if re.match(r"[-−\d]", text.text or "")]


def test_a_small_difference_looks_small(tmp_path: Path, job: Job) -> None:
    """Half a point of accuracy, and a twentieth of a speed-up: what fills the plot is no less than ten points, and 0.5."""

    def near(step: StepMetrics, accuracy: float) -> StepMetrics:
        scores = Scores(samples=10**6, accuracy=accuracy)
        changes = {"validation": scores, "validation_before_recovery": None, "test": None}
        rows = [row.model_copy(update={"speedup": 1 + 0.05 * step.step / 3}) for row in step.latency]
        return step.model_copy(update=changes | {"latency": tuple(rows)})

    steps = tuple(near(step, 0.93 - 0.005 * step.step / 3) for step in job.steps)
    write_report(
        tmp_path, steps, spec=job.spec, data=job.data, title="Keywords", architecture=ARCHITECTURE, result=job.result
    )
    shown = _numbers_on_the_axis(tmp_path, "tradeoff")
    assert shown[-1] - shown[0] >= 8
    assert shown[-1] <= 100
    shown = _numbers_on_the_axis(tmp_path, "speed")
    assert shown[-1] - shown[0] >= 0.3


@pytest.mark.parametrize(
    ("values", "least", "share", "ends"),
    [
        ((0.5, 0.7), 0.1, True, (0.476, 0.724)),
        ((0.5, 0.51), 0.1, True, (0.455, 0.555)),
        ((0.5,), 0.1, True, (0.45, 0.55)),
        ((0.99, 0.995), 0.1, True, (0.91, 1.01)),
        ((0.01, 0.02), 0.1, True, (0.0, 0.065)),
        ((-0.02, 0.0), 0.0, True, (-0.0224, 0.0024)),
        ((1.0, 1.05), 0.5, False, (0.775, 1.275)),
        ((2.0, 2.5), 0.0, False, (1.94, 2.56)),
    ],
)
def test_axes_cover_what_the_pages_do(
    values: tuple[float, ...], least: float, share: bool, ends: tuple[float, float]
) -> None:
    """By hand from the page's rule."""
    assert covering(values, least, share=share) == pytest.approx(ends, abs=1e-9)
