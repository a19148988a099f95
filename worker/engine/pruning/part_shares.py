"""Divides one target between attention and feed-forward blocks, by a short search on the outputs of the cut model.

A ranking compares channels and neurons by their costs without compensation. Least squares compensate for some of both, but not
equally. So the search starts from the ranking's division, and each division is judged by a cut with its refit (Týr, arXiv
2503.09657, searches the shares of layers by a similar measure).
"""

from collections.abc import Callable
from math import inf

STEP = 0.06
"""Of the original's neurons: what feed-forward blocks give up more or less from one division to the next."""


def best_shift(loss: Callable[[float], float], most: int) -> float:
    """What feed-forward blocks should give up beyond the ranking's division, as a share of the original's neurons.

    Up from 0 in STEPs for as long as the loss falls, else down, and then half a step to either side: of at most `most` divisions
    that are tried the one with the least loss, and of equal ones the nearest to 0 along the way.
    """
    tried: dict[int, float] = {}

    def at(halves: int) -> float:
        if halves not in tried:
            if len(tried) == most:
                return inf
            tried[halves] = loss(halves * STEP / 2)
        return tried[halves]

    best = 0
    at(best)
    for step in (2, -2):
        while at(best + step) < at(best):
            best += step
        if best:
            break
    for step in (1, -1):
        if at(best + step) < at(best):
            best += step
            break
    return best * STEP / 2
