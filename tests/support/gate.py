"""What `make test` runs of a matrix that `make test-all` runs whole: few of its rows, in which every two values meet that can.

Most faults that a choice of many settings uncovers come of one value or of two that meet, and every two meet in the gate.
`TEST_WHOLE=1`, which `make test-all` sets, leaves nothing out.
"""

import heapq
import os
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import TypeVar

T = TypeVar("T")
Factors = Callable[[T], Sequence[Hashable]]
WHOLE = os.environ.get("TEST_WHOLE") == "1"


def number(name: str, gate: int, whole: int) -> int:
    """How many of something: what the environment says under `name`, else one of two numbers."""
    return int(os.environ.get(name, whole if WHOLE else gate))


def pairs(values: Sequence[Hashable]) -> set[Hashable]:
    """Every two values of a row, each with its place."""
    return set(combinations(enumerate(values), 2))


def covering(rows: Sequence[T], factors: Factors[T]) -> list[T]:
    """Rows in which every two values of two factors meet that meet in any row; the same rows every time, in their order.

    Always the row next that brings the most new pairs. What a row would bring only falls with the rows that are taken, so that
    the best one is found where its own count, made anew, still stands first.
    """
    left = {pair for row in rows for pair in pairs(factors(row))}
    waiting = [(-len(pairs(factors(row))), place) for place, row in enumerate(rows)]
    heapq.heapify(waiting)
    taken = []
    while left:
        _, place = heapq.heappop(waiting)
        new = pairs(factors(rows[place])) & left
        if waiting and (-len(new), place) > waiting[0]:
            heapq.heappush(waiting, (-len(new), place))
            continue
        left -= new
        taken.append(place)
    return [rows[place] for place in sorted(taken)]
