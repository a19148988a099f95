"""The times of two models from the same rounds: the median of their ratios, its interval, and whether it exceeds the noise."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from api_schemas.enums import SpeedVerdict
from api_schemas.results.metrics import PairedSpeedup

CONFIDENCE = 0.95
NARROW = 0.05
"""Relative width of an interval from which on more rounds would say little more."""


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval that covers the median of what `values` were drawn from, whatever its distribution: two of the sorted values.

    The number of values below the median is binomial with p = 1/2 (Conover, Practical Nonparametric Statistics, section 3.2).
    With fewer than six values there is no such interval at 95%: then it is all they span. ValueError without values.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    if not len(ordered):
        raise ValueError("no values have no median")
    place = _place(len(ordered), confidence)
    return float(ordered[place]), float(ordered[-1 - place])


@cache
def _place(count: int, confidence: float) -> int:
    """Which of `count` sorted values, from 0, the interval begins with: the last that is above the median rarely enough."""
    ways = below = 1
    place = 0
    for place in range(count // 2):
        ways = ways * (count - place) // (place + 1)
        below += ways
        # Whole numbers of any size divide into a float.
        if 2 * below / 2**count > 1.0 - confidence:
            break
    return place


def compare(dense: NDArray[np.float64], cut: NDArray[np.float64], dense_copy: NDArray[np.float64]) -> PairedSpeedup:
    """Times by round, [rounds] each, in any unit: how many times as fast `cut` is, and how sure that is.

    Rounds in which all three are slow weigh as much as any other. The noise counts in both directions, since which of two equal
    models is the copy is chance.
    """
    ratios = dense / cut
    low, high = median_interval(ratios)
    noise_low, noise_high = median_interval(dense / dense_copy)
    noise = max(noise_high, 1.0 / noise_low, 1.0)
    verdict = SpeedVerdict.NOT_MEASURABLE
    if low > noise:
        verdict = SpeedVerdict.FASTER
    elif high < 1.0 / noise:
        verdict = SpeedVerdict.SLOWER
    return PairedSpeedup(
        ratio=float(np.median(ratios)), low=low, high=high, noise_low=noise_low, noise_high=noise_high, verdict=verdict
    )


def is_narrow(values: ArrayLike) -> bool:
    """Whether the interval of the median is narrow already."""
    low, high = median_interval(values)
    return high <= low * (1.0 + NARROW)


def without_load(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times, [rounds, passes], with what a whole round was slower than others taken out: the passes' medians stay.

    One turn of Tukey's median polish, on logarithms, since load multiplies.
    """
    logs = np.log(times)
    of_round = np.median(logs - np.median(logs, axis=0), axis=1, keepdims=True)
    kept: NDArray[np.float64] = np.exp(logs - of_round)
    return kept
