"""The simulated queue against queueing theory, and its loads and durations."""

from math import factorial

import numpy as np
import pytest

from benchmarks.scale.simulation import DAY, Load, exponential, measured, needed, numbers, simulate


def mean_wait(servers: int, jobs_a_second: float, mean: float) -> float:
    """Of M/M/c, by Erlang's C formula: C(c, a) / (c/mean − jobs_a_second), with a = jobs_a_second · mean."""
    offered = jobs_a_second * mean
    last = offered**servers / factorial(servers) * servers / (servers - offered)
    waits = last / (sum(offered**k / factorial(k) for k in range(servers)) + last)
    return waits / (servers / mean - jobs_a_second)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.5), (4, 0.6)])
def test_waiting_is_what_erlang_says(servers: int, load: float) -> None:
    mean = 20.0
    rate = load * servers / mean
    found = simulate(servers, Load(rate * DAY), exponential(mean), days=9)
    assert found.mean_wait == pytest.approx(mean_wait(servers, rate, mean), rel=0.05)
    assert found.utilisation == pytest.approx(load, rel=0.02)
    assert found.offered == pytest.approx(load, rel=0.02)
    assert found.jobs == pytest.approx(8 * rate * DAY, rel=0.02)  # Of nine days the first fills the queue.


def test_equal_jobs_wait_half_as_long_as_exponential_ones() -> None:
    """Pollaczek and Khinchine: at one server the wait goes with 1 + the squared coefficient of variation."""
    found = simulate(1, Load(0.5 / 60 * DAY), measured([60.0]), days=13)
    assert found.mean_wait == pytest.approx(mean_wait(1, 0.5 / 60, 60.0) / 2, rel=0.06)


def test_a_busy_day_has_its_jobs_in_its_busy_hours() -> None:
    arrivals = Load(10_000, busy_hours=6, busy_share=0.75).arrivals(np.random.default_rng(0), days=4)
    assert np.all(np.diff(arrivals) >= 0)
    assert np.mean(arrivals % DAY < 6 * 3600) == pytest.approx(0.75, abs=0.01)
    assert len(arrivals) == pytest.approx(40_000, rel=0.02)


def test_overhead_holds_a_gpu_as_the_job_does() -> None:
    load = Load(1000)
    assert simulate(2, load, measured([50.0]), overhead=10.0) == simulate(2, load, measured([60.0]))


def test_the_number_of_gpus_needed_is_the_least_that_does() -> None:
    load, draw = Load(2000), measured([200.0, 400.0])
    gpus = needed(load, draw, 100.0)
    assert simulate(gpus, load, draw, days=3).p95 <= 100.0 < simulate(gpus - 1, load, draw, days=3).p95


def test_durations_are_read_wherever_they_stand() -> None:
    runs = {"a": {"seconds": 3, "speed": 9}, "b": [{"seconds": [1.5, 0]}, {"seconds": True}]}
    assert numbers(runs, "seconds") == [3.0, 1.5]
    assert numbers([1, [2.5], {"x": 4}, -1, "5"]) == [1.0, 2.5, 4.0]
    drawn = measured(numbers(runs, "seconds"), mean=90.0)(np.random.default_rng(0), 1000)
    assert set(np.unique(drawn).round(6)) == {60.0, 120.0}
    with pytest.raises(ValueError, match="no durations"):
        measured([])
