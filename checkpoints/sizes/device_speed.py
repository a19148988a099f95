"""How fast a worker's device is, as a short measurement found it: what the time of a first job is estimated from.

One number of FLOPs a second is wrong by a factor of ten and more for small models, whose layers spend their time on being called.
So what was measured are whole encoder layers of several sizes: the time of any other follows from those next to it.
"""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from api_schemas.base import FrozenModel

MEASURED = 1
"""Which measurement this is: rises when worker/engine/runtime/device_speed.py measures something else."""


class LayerTime(FrozenModel):
    """One call of an encoder layer with a batch, the shortest of several, in seconds."""

    flops: float = Field(gt=0)
    """Of the forward pass."""
    forward: float = Field(gt=0)
    training: float = Field(gt=0)
    """Forward and backward, with gradients of all weights."""


class DeviceSpeed(FrozenModel):
    """What was measured."""

    layers: tuple[LayerTime, ...] = Field(min_length=2)
    """By rising FLOPs."""
    float64_flops: float = Field(gt=0)
    """FLOPs a second of a matrix product in float64."""
    host_call: float = Field(gt=0)
    """Seconds of one call of the smallest layer on the host's CPU: how fast it runs Python and small operators."""

    def forward_seconds(self, flops: float) -> float:
        """Of one call of a layer with so many FLOPs."""
        return _between([(each.flops, each.forward) for each in self.layers], flops)

    def training_seconds(self, flops: float) -> float:
        """The same, forward and backward. `flops`: of the forward pass."""
        return _between([(each.flops, each.training) for each in self.layers], flops)


def _between(points: Sequence[tuple[float, float]], flops: float) -> float:
    """Seconds: a straight line between two sizes that were measured, being called and then so much a FLOP. A smaller layer takes
    as long as the smallest one; a larger one as much longer than the largest as it has more FLOPs.
    """
    if flops <= points[0][0]:
        return points[0][1]
    for (less, shorter), (more, longer) in pairwise(points):
        if flops <= more:
            return shorter + (longer - shorter) * (flops - less) / (more - less)
    return points[-1][1] * flops / points[-1][0]
