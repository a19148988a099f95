"""Heads and channels in one ranking: the least score per parameter goes first, be it a channel or a whole head.

Sizes differ by a factor of a hundred, so what is compared is the score a parameter. A head of which channels have gone is
scored and priced by what is left of it; when it goes, so do its channels. Where a set scores the sum of its channels, a
head is as dear a parameter as its mean channel: it goes once its cheap channels have gone, or with them where none is
dearer. A gate knows more: a head costs its VO gate alone, its QK goes with it for nothing, and channels that cancel are
cheaper together than one by one.

Greedy, by a heap: every head holds its next QK block, its next VO block and itself; entries that a later decision has made
stale are dropped when they come up.
"""

import heapq
from collections.abc import Mapping, Sequence

from api_schemas import accounting
from api_schemas.accounting import ModelShape
from api_schemas.budget import Unit
from api_schemas.enums import Normalization
from api_schemas.reach import included_layers, least_channels, least_heads
from api_schemas.spec import Pruning
from api_schemas.widths import AttentionWidths
from worker.engine.scoring import LayerScores
from worker.engine.scoring.channels import Side
from worker.engine.structures import Members, Structure, blocks_of

_CHANNELS: tuple[Side, Side] = ("qk", "vo")


class HeadAndChannel:
    """The channels of all heads, scored and ordered once; `take` may be asked for any budget, any number of times."""

    def __init__(
        self, widths: AttentionWidths, scores: Sequence[LayerScores], shape: ModelShape, unit: Unit, pruning: Pruning
    ) -> None:
        self._widths, self._scores, self._unit, self._align = widths, scores, unit, pruning.align
        self._least_heads, self._kept = least_heads(pruning), least_channels(pruning) // pruning.align
        self._parameters: dict[Side, int] = {
            "qk": accounting.qk_channel_parameters(shape),
            "vo": accounting.vo_channel_parameters(shape),
        }
        self._blocks: dict[tuple[int, int, Side], list[tuple[float, Members]]] = {}
        self._scale: dict[int, float] = {}
        self._densities: dict[tuple[int, int, int, int], float] = {}
        for number in included_layers(len(widths.layers), pruning):
            found: list[float] = []
            for head in range(widths.layers[number].heads):
                for side in _CHANNELS:
                    size = self._align * self._parameters[side]
                    self._blocks[number, head, side] = [
                        (scores[number].per_parameter(score, size), members)
                        for score, members in blocks_of(scores[number], side, head, self._align)
                    ]
                    found += [density for density, _ in self._blocks[number, head, side]]
            # The mean over the layer, as in structures(), of what is compared here.
            mean = sum(found) / max(len(found), 1)
            self._scale[number] = mean if mean and pruning.normalization is Normalization.LAYER else 1.0

    def take(self, numbers: Sequence[int], budgets: Mapping[str, float]) -> list[Structure]:
        """What to remove from these layers to come nearest to `budgets`, in the unit of the target.

        `budgets` has one entry, "", for everything, or one for `qk` and one for `vo`. A structure is taken if it brings every
        budget it counts against nearer; one that would overshoot is passed over for smaller ones.
        """
        layers = self._widths.layers
        taken = {(n, head, side): 0 for n in numbers for head in range(layers[n].heads) for side in _CHANNELS}
        alive = {number: set(range(layers[number].heads)) for number in numbers}
        gaps = dict(budgets)
        heap: list[tuple[float, Side, int, int, tuple[int, int]]] = []
        chosen: list[Structure] = []

        def push(number: int, head: int, kind: Side) -> None:
            stamp = (taken[number, head, "qk"], taken[number, head, "vo"])
            if kind == "head":
                if len(alive[number]) <= self._least_heads:
                    return
                density = self._head_density(number, head, *stamp)
            else:
                blocks, at = self._blocks[number, head, kind], taken[number, head, kind]
                if at >= len(blocks) - self._kept:
                    return
                density = blocks[at][0]
            heapq.heappush(heap, (density / self._scale[number], kind, number, head, stamp))

        for number in numbers:
            for head in alive[number]:
                for kind in ("head", *_CHANNELS):
                    push(number, head, kind)
        while heap:
            density, kind, number, head, stamp = heapq.heappop(heap)
            sides = _CHANNELS if kind == "head" else (kind,)
            stale = any(taken[number, head, side] != stamp[_CHANNELS.index(side)] for side in sides)
            if stale or head not in alive[number] or (kind == "head" and len(alive[number]) <= self._least_heads):
                continue
            costs = {side: self._unit.cost(side) * self._align for side in sides}
            if kind == "head":
                costs = {side: cost * self._left(number, head, side, stamp) for side, cost in costs.items()}
            total = sum(costs.values())
            charges = {"": total} if "" in gaps else costs
            if any(abs(gaps[side] - cost) >= abs(gaps[side]) for side, cost in charges.items()):
                continue
            for side, cost in charges.items():
                gaps[side] -= cost
            if kind == "head":
                members: Members = ((head, -1),)
                alive[number].remove(head)
            else:
                _, members = self._blocks[number, head, kind][taken[number, head, kind]]
                taken[number, head, kind] += 1
                push(number, head, kind)
                push(number, head, "head")
            chosen.append(Structure(number, kind, len(chosen), members, density, total))
        return chosen

    def _left(self, number: int, head: int, side: Side, taken: tuple[int, int]) -> int:
        """Blocks that are left of a head's side."""
        return len(self._blocks[number, head, side]) - taken[_CHANNELS.index(side)]

    def _head_density(self, number: int, head: int, qk_taken: int, vo_taken: int) -> float:
        """Score a parameter of what is left of a head."""
        key = (number, head, qk_taken, vo_taken)
        if key not in self._densities:
            left = {
                side: [c for _, block in self._blocks[number, head, side][taken:] for _, c in block]
                for side, taken in zip(_CHANNELS, (qk_taken, vo_taken), strict=True)
            }
            parameters = sum(len(channels) * self._parameters[side] for side, channels in left.items())
            score = self._scores[number].rest_of_head(head, left["qk"], left["vo"])
            self._densities[key] = self._scores[number].per_parameter(score, parameters)
        return self._densities[key]
