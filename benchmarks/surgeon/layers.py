"""How much each layer gives up: shares of neurons by what they cost, or of either part by a short search.

The search is one step downhill. Every layer alone is made to give up more, the others as much less, and what that does to the
loss is the slope; then all layers move against it, further each time, for as long as the loss falls. Týr (arXiv 2503.09657)
searches longer, coarse to fine, among stored layers of several widths.
"""

from collections.abc import Callable, Sequence
from math import exp

from benchmarks.surgeon.refit import STEP, Order

Weights = tuple[float, ...]
"""By layer, the logarithm of how much dearer than before what it still has is taken to be."""
PROBE = -0.35
LENGTHS = (0.25, 0.5, 0.9, 1.4)


def downhill(loss: Callable[[Weights], float], layers: int) -> Weights:
    """Where the loss is least of all that is tried: at most 1 + `layers` + 4 times; no weights where nothing is better."""
    nothing = (0.0,) * layers
    here = loss(nothing)
    slope = [loss(tuple(PROBE * (at == layer) for at in range(layers))) - here for layer in range(layers)]
    steepest = max(map(abs, slope)) or 1.0
    best, least = nothing, here
    for length in LENGTHS:
        there = tuple(length * each / steepest for each in slope)
        found = loss(there)
        if found >= least:
            break
        best, least = there, found
    return best


def spread(wanted: Sequence[float], total: int, most: Sequence[int], multiple: int) -> list[int]:
    """Multiples of `multiple`, in proportion to `wanted`, none more than `most`, that are `total` together, rounded down."""
    counts = [0] * len(wanted)
    while sum(counts) + multiple <= total:
        able = [at for at, count in enumerate(counts) if count + multiple <= most[at]]
        if not able:
            break
        counts[min(able, key=lambda at: (counts[at] + multiple / 2) / wanted[at])] += multiple
    return counts


def weighted(counts: Sequence[int], weights: Weights, total: int, most: Sequence[int], multiple: int) -> list[int]:
    """Neurons by block, `total` in all, in proportion to what they were and how dear they are."""
    return spread([count * exp(weight) for count, weight in zip(counts, weights, strict=True)], total, most, multiple)


def by_cost(orders: Sequence[Order], total: int, most: Sequence[int], multiple: int) -> list[int]:
    """Neurons by block where STEP after STEP goes from the block whose residual stream loses the least share by it."""
    gone = [0] * len(orders)
    left = sum(most) - total
    while left > 0:
        able = [at for at, order in enumerate(orders) if gone[at] + 1 < len(order.cost)]
        if not able:
            break
        cheapest = min(able, key=lambda at: float(orders[at].cost[gone[at] + 1] - orders[at].cost[gone[at]]))
        gone[cheapest] += 1
        left -= STEP
    return spread([many - STEP * steps for many, steps in zip(most, gone, strict=True)], total, most, multiple)
