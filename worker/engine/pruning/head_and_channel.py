"""Heads and channels in one ranking: the least score per parameter goes first, be it a channel or a whole head.

Sizes differ by a factor of a hundred, so what is compared is the score a parameter. A head of which channels have gone is
scored and priced by what is left of it; when it goes, so do its channels. Where a set scores the sum of its channels, a
head is as dear a parameter as its mean channel: it goes once its cheap channels have gone, or with them where none is
dearer. A gate knows more: a head costs its VO gate alone, its QK goes with it for nothing, and channels that cancel are
cheaper together than one by one.

Neurons of feed-forward blocks may compete in the same ranking; scores are then divided by costs in the target's unit.

Greedy, by a heap: every head holds its next QK block, its next VO block and itself; entries that a later decision has made
stale are dropped when they come up.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

from api_schemas.enums import Normalization
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import least_channels, least_heads
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.pruning.structures import Members, Structure, blocks_of
from worker.engine.scoring import LayerScores
from worker.engine.scoring.channels import Side

_CHANNELS: tuple[Side, Side] = ("qk", "vo")


class HeadAndChannel:
    """The channels of all heads, scored and ordered once; `take` may be asked for any budget, any number of times."""

    def __init__(
        self,
        widths: AttentionWidths,
        scores: Sequence[LayerScores],
        shape: ModelShape,
        unit: CostUnit,
        pruning: Pruning,
        included: Sequence[int],
        neurons: Sequence[Structure] = (),
    ) -> None:
        self.heads = [layer.heads for layer in widths.layers]
        self.least_heads, self.kept = least_heads(pruning), least_channels(pruning) // pruning.align
        self._unit, self._shape, self._align = unit, shape, pruning.align
        self.blocks: dict[tuple[int, int, Side], list[tuple[float, Members]]] = {}
        """Of layer, head and side, least important first: score per parameter, and channels."""
        self._scores = scores
        self._by_cost = pruning.joint_parts
        self.neurons: dict[int, list[Structure]] = defaultdict(list)
        """Of each feed-forward block that competes, least important first."""
        for structure in neurons:
            self.neurons[structure.layer].append(structure)
        self._remaining: dict[tuple[int, int, Side], list[float]] = {}
        """Scores of what is left of a side after 0, 1, … blocks."""
        for number in included:
            of_layer = scores[number]
            for head, side in ((head, side) for head in range(self.heads[number]) for side in _CHANNELS):
                blocks = blocks_of(of_layer, side, head, pruning)
                size = self._sizes(number)[side]
                self.blocks[number, head, side] = [(of_layer.per_parameter(score, size), m) for score, m in blocks]
                order = [channel for _, members in blocks for _, channel in members]
                self._remaining[number, head, side] = of_layer.remaining_scores(side, head, order)[
                    :: pruning.align
                ].tolist()
        self.scale = [1.0] * len(self.heads)
        if pruning.normalization is Normalization.LAYER:
            # The mean over the layer, as in structures(), of what is compared here.
            for number in range(len(self.heads)):
                blocked = [blocks for (layer, _, _), blocks in self.blocks.items() if layer == number]
                found = [density for blocks in blocked for density, _ in blocks]
                self.scale[number] = sum(found) / max(len(found), 1) or 1.0

    def take(self, numbers: Sequence[int], budgets: Mapping[str, float]) -> list[Structure]:
        """What to remove from these layers to come nearest to `budgets`, in the unit of the target.

        `budgets` has one entry, "", for everything, or one for `qk` and one for `vo`. A structure is taken if it brings every
        budget it counts against nearer. A head that would overshoot by more than a channel could make up for is passed over
        for channels; it is looked at again when there are none left.
        """
        selection = _Selection(self, numbers, budgets)
        selection.go_on(patient=True)
        selection.go_on(patient=False)
        return selection.chosen

    def block_cost(self, number: int) -> dict[Side, int]:
        """What one block of either side of an attention costs, in the unit of the target."""
        return {side: self._unit.cost(number, side) * self._align for side in _CHANNELS}

    def _sizes(self, number: int) -> dict[Side, int]:
        """What scores of one block of either side are divided by: parameters; beside neurons, costs in the target's unit."""
        if self._by_cost:
            return self.block_cost(number)
        block = self._shape.attention[number]
        return {
            "qk": accounting.qk_channel_parameters(block) * self._align,
            "vo": accounting.vo_channel_parameters(block) * self._align,
        }

    def density(self, number: int, head: int, qk_taken: int, vo_taken: int) -> float:
        """Score per parameter, or cost, of what is left of a head after so many blocks."""
        qk, vo = self._remaining[number, head, "qk"], self._remaining[number, head, "vo"]
        sizes = self._sizes(number)
        parameters = (len(qk) - 1 - qk_taken) * sizes["qk"] + (len(vo) - 1 - vo_taken) * sizes["vo"]
        scores = self._scores[number]
        return scores.per_parameter(scores.head_of(qk[qk_taken], vo[vo_taken]), parameters)


class _Selection:
    """One selection under way: what has been taken, what each budget still lacks, and the heap of what may come next."""

    def __init__(self, of: HeadAndChannel, numbers: Sequence[int], budgets: Mapping[str, float]) -> None:
        self.chosen: list[Structure] = []
        self._of = of
        self._gaps = dict(budgets)
        self._alive = {number: set(range(of.heads[number])) for number in numbers}
        self._taken = {(n, head, side): 0 for n in numbers for head in self._alive[n] for side in _CHANNELS}
        self._neurons = dict.fromkeys(of.neurons, 0)
        self._heap: list[tuple[float, Side, int, int, tuple[int, int]]] = []

    def go_on(self, *, patient: bool) -> None:
        """Take what brings the budgets nearer, least score per parameter first; `patient`: unless smaller will do."""
        for number, heads in self._alive.items():
            for head in heads:
                for kind in ("head", *_CHANNELS):
                    self._offer(number, head, kind)
        for number in self._neurons:
            self._offer_neurons(number)
        while self._heap:
            density, kind, number, head, stamp = heapq.heappop(self._heap)
            if kind == "neuron":
                # A block has one entry at a time, its next neurons: none is ever out of date.
                self._consider_neurons(number)
            elif head in self._alive[number] and self._stamp(number, head, kind) == stamp:
                self._consider(density, kind, number, head, patient)

    def _stamp(self, number: int, head: int, kind: Side) -> tuple[int, int]:
        """Blocks taken of what a structure is made of; an entry with another stamp is out of date."""
        qk, vo = self._taken[number, head, "qk"], self._taken[number, head, "vo"]
        return (0 if kind == "vo" else qk, 0 if kind == "qk" else vo)

    def _offer(self, number: int, head: int, kind: Side) -> None:
        """Put a head, or the next block of a head's side, on the heap, if there is one to take."""
        stamp = self._stamp(number, head, kind)
        if kind == "head":
            density = self._of.density(number, head, *stamp)
        else:
            blocks, at = self._of.blocks[number, head, kind], self._taken[number, head, kind]
            if at >= len(blocks) - self._of.kept:
                return
            density = blocks[at][0]
        heapq.heappush(self._heap, (density / self._of.scale[number], kind, number, head, stamp))

    def _offer_neurons(self, number: int) -> None:
        """The next neurons of a feed-forward block. Where a head has its number, they have how many have gone before them."""
        at = self._neurons[number]
        if at < len(self._of.neurons[number]):
            heapq.heappush(self._heap, (self._of.neurons[number][at].score, "neuron", number, at, (0, 0)))

    def _consider_neurons(self, number: int) -> None:
        structure = self._of.neurons[number][self._neurons[number]]
        if abs(self._gaps[""] - structure.cost) < abs(self._gaps[""]):
            self._gaps[""] -= structure.cost
            self._neurons[number] += 1
            self.chosen.append(structure)
            self._offer_neurons(number)

    def _consider(self, density: float, kind: Side, number: int, head: int, patient: bool) -> None:
        block_cost = self._of.block_cost(number)
        costs = {side: cost for side, cost in block_cost.items() if kind in ("head", side)}
        if kind == "head":
            if len(self._alive[number]) <= self._of.least_heads:
                return
            left = {side: len(self._of.blocks[number, head, side]) - self._taken[number, head, side] for side in costs}
            costs = {side: cost * left[side] for side, cost in costs.items()}
        gaps = self._gaps
        charges = {"": sum(costs.values())} if "" in gaps else dict(costs)
        slack = min(block_cost.values()) / 2
        for side, cost in charges.items():
            nearer = abs(gaps[side] - cost) < abs(gaps[side])
            if not nearer or (kind == "head" and patient and cost - gaps[side] > slack):
                return
        for side, cost in charges.items():
            gaps[side] -= cost
        if kind == "head":
            members: Members = ((head, -1),)
            self._alive[number].remove(head)
        else:
            _, members = self._of.blocks[number, head, kind][self._taken[number, head, kind]]
            self._taken[number, head, kind] += 1
            self._offer(number, head, kind)
            self._offer(number, head, "head")
        self.chosen.append(Structure(number, kind, len(self.chosen), members, density, sum(costs.values())))
