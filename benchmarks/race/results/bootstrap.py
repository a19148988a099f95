"""Intervals for a difference of accuracies on the same clips: the paired bootstrap (Efron and Tibshirani, 1993, ch. 13)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Of two accuracies, in points, with a 95% percentile interval."""

    points: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Zero is not in the interval."""
        return self.low > 0 or self.high < 0


def paired(first_N: NDArray[np.floating], second_N: NDArray[np.floating], seed: int = 0) -> Difference:
    """mean(first) − mean(second) in points. Each entry is a clip's accuracy: 0 or 1, or its mean over calibration draws.

    Clips are drawn with replacement, the same for both; draws of calibration samples are not resampled. A resample enters as
    how often it drew each clip, which are multinomial counts.
    """
    difference_N = np.asarray(first_N, dtype=np.float64) - np.asarray(second_N, dtype=np.float64)
    clips = len(difference_N)
    generator = np.random.default_rng(seed)
    # Clips with equal differences are alike: draw how many of each kind, not which.
    values, counts = np.unique(difference_N, return_counts=True)
    drawn = generator.multinomial(clips, counts / clips, size=RESAMPLES)
    means = drawn @ values / clips
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(100 * float(difference_N.mean()), 100 * float(low), 100 * float(high))
