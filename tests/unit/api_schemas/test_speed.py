"""How a speed-up is worded: measurable, slower, covered by noise, and of versions that knew no noise."""

from typing import Any

import pytest

from api_schemas.results import speed
from api_schemas.results.display import goal
from api_schemas.results.metrics import Latency, StepMetrics, TargetMet
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from tests.support.jobs.sample_metrics import measured_step, paired

UNEVEN = AttentionWidths.of(8, [([5, 8], [8, 8]), ([8, 8], [8, 8])])
EVEN = AttentionWidths.of(8, [([4, 4], [4, 4])] * 2)
ODD = AttentionWidths.of(8, [([5, 5], [5, 5])] * 2)


def timed(ratio: float, spread: float = 0.05, batch_size: int = 1) -> Latency:
    row = measured_step(1).latency[0].model_copy(update={"batch_size": batch_size, "speedup": 9.99})
    return row.model_copy(update={"paired": paired(ratio, spread)})


def step(*latency: Latency, **update: Any) -> StepMetrics:
    return measured_step(1).model_copy(update={"latency": latency, **update})


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (timed(1.5), "1.50× (1.46 to 1.54×)"),
        (timed(0.8), "0.80×, slower (0.78 to 0.82×)"),
        (timed(1.0, 0.4), "not measurable here (0.80 to 1.20×)"),
        (timed(1.5).model_copy(update={"paired": None, "speedup": 0.39}), "0.39×"),
    ],
)
def test_a_speed_up_in_words(row: Latency, text: str) -> None:
    assert speed.speed(row).text == text
    assert speed.written(step(row), row) == text
    # The original is what everything is measured by.
    assert speed.written(measured_step(0), row) == "–"


def test_curves_have_no_point_where_noise_covers_the_ratio() -> None:
    assert speed.point(step(), timed(1.5)) == 1.5
    assert speed.point(step(), timed(1.0, 0.4)) is None
    assert speed.point(measured_step(0), timed(1.02, 0.4)) == 1.0
    assert speed.point(step(), None) is None
    assert speed.noise(timed(1.5)) == "0.98 to 1.02×"


def test_a_latency_that_is_not_measurable_is_not_said_to_be_met() -> None:
    target = TargetMet(kind="latency", requested=0.3, achieved=0.28)
    assert goal(step(timed(1.4), target=target)) == (0.3, 0.28)
    assert speed.achieved_written(step(timed(1.4), target=target)) == "28.00%"
    assert goal(step(timed(1.0, 0.4), target=target)) == (0.3, None)
    assert speed.achieved_written(step(timed(1.0, 0.4), target=target)) == "not measurable here (-25% to 17%)"
    # What is counted is met whatever the load.
    counted = target.model_copy(update={"kind": "flops"})
    assert goal(step(timed(1.0, 0.4), target=counted)) == (0.3, 0.28)


@pytest.mark.parametrize(
    ("widths", "asked", "reason"),
    [
        (UNEVEN, {"granularity": "ragged"}, "In 1 of 2 layers heads differ in width, or QK from VO"),
        (UNEVEN, {"granularity": "ragged"}, "Use granularity head_and_width with align 8, or entire_head."),
        (UNEVEN, {"granularity": "per_head", "align": 1}, "Use align 8."),
        (UNEVEN, {"granularity": "per_head", "align": 8}, "Use granularity entire_head"),
        (ODD, {"granularity": "per_head", "align": 1}, "In 2 of 2 layers the width of heads is not a multiple of 4"),
        (EVEN, {"granularity": "per_head", "align": 1}, "so they are not the cause"),
    ],
)
def test_a_slower_step_says_why_and_what_to_ask_for(
    widths: AttentionWidths, asked: dict[str, Any], reason: str
) -> None:
    pruning = Pruning.model_validate({"target": {"attention_sparsity": 0.5}, **asked})
    said = speed.slower(step(timed(0.8), timed(1.3, batch_size=8), widths=widths), pruning)
    assert said is not None
    assert said.startswith("Step 1 is slower than the original at batch 1 (0.80×).")
    assert reason in said
    assert said.endswith("With more samples per batch it is faster: at batch 8, 1.30× (1.27 to 1.33×).")
    covered = speed.slower(step(timed(0.8), timed(1.0, 0.4, batch_size=8), widths=widths), pruning)
    assert covered is not None
    assert covered.endswith("At batch 8 it is not measurable here (0.80 to 1.20×).")
    alone = speed.slower(step(timed(0.8), widths=widths), pruning)
    assert alone is not None
    assert "Larger batches were not measured" in alone


def test_nothing_is_said_of_a_step_that_is_not_measurably_slower() -> None:
    pruning = Pruning.model_validate({"target": {"attention_sparsity": 0.5}})
    assert speed.slower(step(timed(1.3), timed(0.9, 0.6, batch_size=8)), pruning) is None
    assert speed.slower(measured_step(0).model_copy(update={"latency": (timed(0.8),)}), pruning) is None
    # Metrics of an earlier version: nothing says how sure the ratio is.
    assert speed.slower(step(timed(0.8).model_copy(update={"paired": None})), pruning) is None
