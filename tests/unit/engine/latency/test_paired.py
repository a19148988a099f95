"""The interval of a median against scipy, and verdicts on machines whose true speeds are known."""

import numpy as np
import pytest
from scipy.stats import quantile_test

from api_schemas.enums import SpeedVerdict
from api_schemas.results.metrics import Latency
from tests.unit.engine.latency.machines import LOADS, Machine
from worker.engine.latency.paired import compare, is_narrow, median_interval, without_load
from worker.engine.latency.timing import summarise, sure, time_in_turn

MACHINES = 120
"""Simulated for each load and speed; at a coverage of 95% fewer than 107 of 120 cover in three draws of a thousand."""


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_is_scipys(confidence: float) -> None:
    draw = np.random.default_rng(0)
    for count in (8, 9, 30, 31, 300, 1500):
        values = draw.lognormal(size=count)
        # scipy's interval need not be symmetric; two one-sided ones at half the error are ours.
        half = 1.0 - (1.0 - confidence) / 2.0
        low = quantile_test(values, p=0.5, alternative="greater").confidence_interval(half).low
        high = quantile_test(values, p=0.5, alternative="less").confidence_interval(half).high
        assert median_interval(values, confidence) == (low, high)


def test_few_values_give_all_they_span_and_none_give_nothing() -> None:
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 5.0)
    assert median_interval([2.0]) == (2.0, 2.0)
    # At 95% six are the first whose extremes will do: 1 - 2 / 2^6.
    assert median_interval(range(6)) == (0.0, 5.0)
    assert median_interval(range(9)) == (1.0, 7.0)
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


def test_narrow_is_a_matter_of_ratio() -> None:
    assert is_narrow(np.linspace(100, 104, 6))
    assert not is_narrow(np.linspace(100, 106, 6))
    assert is_narrow(np.linspace(0.1, 0.104, 6))


def timed(machine: Machine, speedup: float, least: int = 30) -> Latency:
    """As measure_latency times a model: 6 ms dense."""
    passes = [machine.passes(6.0), machine.passes(6.0 / speedup), machine.passes(6.0)]
    times = time_in_turn(passes, least, most=10 * least, seconds=10.0, enough=sure, clock=machine.clock)
    return summarise(1, *times.T)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("speedup", [0.8, 1.0, 1.5])
def test_intervals_cover_and_verdicts_are_right_on_a_busy_machine(load: str, speedup: float) -> None:
    found = [timed(Machine(seed, **LOADS[load]), speedup).paired for seed in range(MACHINES)]
    covered = sum(each.low <= speedup <= each.high for each in found)
    assert covered >= 107
    wrong = {
        0.8: SpeedVerdict.FASTER,
        1.0: None,
        1.5: SpeedVerdict.SLOWER,
    }[speedup]
    verdicts = [each.verdict for each in found]
    assert wrong not in verdicts
    right = {0.8: SpeedVerdict.SLOWER, 1.0: SpeedVerdict.NOT_MEASURABLE, 1.5: SpeedVerdict.FASTER}[speedup]
    assert verdicts.count(right) >= 0.95 * MACHINES
    assert all(0.8 * speedup < each.ratio < 1.25 * speedup for each in found)


def test_the_ratio_of_medians_was_not_to_be_trusted_there() -> None:
    """What paired ratios are for: on the same machine the two medians' ratio goes astray by half."""
    of_medians = [timed(Machine(seed, bursts=True), 1.0, least=30) for seed in range(MACHINES)]
    assert max(abs(np.log(each.speedup)) for each in of_medians) > np.log(1.3)
    assert max(abs(np.log(each.paired.ratio)) for each in of_medians) < np.log(1.05)


def test_noise_counts_in_both_directions() -> None:
    """Equal models of which the copy came out slower by a tenth: being faster by a twentieth says nothing, either way."""
    dense = np.full(30, 10.0)
    found = compare(dense, dense / 1.05, dense * 1.1)
    assert (found.ratio, found.noise_high) == (pytest.approx(1.05), pytest.approx(1 / 1.1))
    assert found.verdict is SpeedVerdict.NOT_MEASURABLE
    assert compare(dense, dense / 1.2, dense * 1.1).verdict is SpeedVerdict.FASTER
    assert compare(dense, dense * 1.2, dense / 1.1).verdict is SpeedVerdict.SLOWER


def test_what_slows_a_round_is_taken_out_and_medians_stay() -> None:
    draw = np.random.default_rng(0)
    own, load = draw.uniform(1, 9, size=7), draw.choice([1.0, 4.0], size=(41, 1))
    found = without_load(own * load)
    assert np.allclose(found / found[:1], 1.0)
    assert np.allclose(found[0] / own, found[0, 0] / own[0])
