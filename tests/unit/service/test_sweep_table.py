"""Which jobs of a sweep no other beats."""

import pytest

from api_schemas.api.sweeps import SweepRow
from api_schemas.enums import JobState, SpeedVerdict
from api_schemas.results.metrics import Latency, PairedSpeedup, Scores, Size
from service.core.sweeps.table import front, fronts


@pytest.mark.parametrize(
    ("points", "names"),
    [
        ([], ()),
        ([(2, 0.8, "a"), (1, 0.9, "b")], ("b",)),
        ([(2, 0.9, "a"), (1, 0.8, "b")], ("b", "a")),
        ([(1, 0.9, "a"), (2, 0.9, "b")], ("a",)),
        ([(1, 0.8, "a"), (1, 0.9, "b")], ("b",)),
        ([(1, 0.9, "a"), (1, 0.9, "b"), (2, 0.9, "c")], ("a", "b")),
        ([(3, 0.95, "c"), (1, 0.5, "a"), (2, 0.4, "x"), (2, 0.7, "b")], ("a", "b", "c")),
    ],
)
def test_a_front_is_what_nobody_beats(points: list[tuple[float, float, str]], names: tuple[str, ...]) -> None:
    assert front(points) == names
    # By the definition, point by point.
    beaten = {
        mine[2]
        for mine in points
        for other in points
        if other[0] <= mine[0] and other[1] >= mine[1] and other[:2] != mine[:2]
    }
    assert set(names) == {name for _, _, name in points} - beaten


def row(job: str, rate: float, speedup: float, verdict: SpeedVerdict) -> SweepRow:
    size = Size(attention_parameters=1, total_parameters=2, flops=3, file_bytes=4)
    paired = PairedSpeedup(ratio=speedup, low=1, high=3, noise_low=0.9, noise_high=1.1, verdict=verdict)
    latency = Latency(
        batch_size=1, runs=5, p50_ms=1, p95_ms=1, throughput=1, dense_p50_ms=2, dense_p95_ms=2, speedup=9, paired=paired
    )
    scores = Scores(samples=1, word_error_rate=rate)
    state = JobState.SUCCEEDED
    return SweepRow(
        index=0, label=job, changes={}, job=job, state=state, step=1, size=size, validation=scores, latency=(latency,)
    )


def test_less_is_better_of_a_rate_of_errors_and_noise_is_no_speed() -> None:
    found = fronts(
        [
            row("fast", 0.3, 2.0, SpeedVerdict.FASTER),
            row("noisy", 0.4, 2.5, SpeedVerdict.NOT_MEASURABLE),
            row("good", 0.1, 1.5, SpeedVerdict.FASTER),
        ]
    )
    assert found.latency == ("fast", "good")
    assert found.parameters == found.flops == ("good",)
