"""Heads and channels in one ranking: the lowest score per parameter is removed first, whether a channel or a whole head.

Sizes differ by a factor of a hundred, so scores are compared per parameter. The score and cost of a head that has lost channels
are those of what is left of it; when it is removed, so are its channels. If a set scores the sum of its channels, a head costs as
much per parameter as its mean channel: it is removed after its cheap channels, or with them if none costs more. Gates capture
more: a head costs only its VO gate, its QK is removed with it at no cost, and channels whose gates cancel are cheaper together
than one by one.

With `head_and_width` the remaining heads of a layer keep one QK and one VO width, if they have one: channels are removed one rank
of all heads at a time, each head its own channel, and the rank's score per parameter is the mean over these channels.

Neurons of feed-forward blocks may compete in the same ranking; scores are then divided by costs in the target's unit.

Greedy, with a heap: it holds for every head its next QK block, its next VO block and the head itself, or for every layer the next
rank of each side. Entries that a later decision has made stale are dropped when they are reached.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from api_schemas.enums import Normalization
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import channels_a_block, channels_together, least_blocks, least_heads
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.pruning.structures import Members, Structure, blocks_of
from worker.engine.scoring import LayerScores
from worker.engine.scoring.channels import Side

_CHANNELS: tuple[Side, Side] = ("qk", "vo")
_ALL = -1
"""In place of a head's number: all heads that the layer still has."""


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
        self.even = tuple(channels_together(layer, pruning) for layer in widths.layers)
        """Of each layer, whether its heads keep one width."""
        self.least_heads = least_heads(pruning)
        self.kept = [{side: least_blocks(pruning, layer, side) for side in _CHANNELS} for layer in widths.layers]
        """By layer and side, the blocks that stay in a head."""
        self._channels = [
            {side: channels_a_block(pruning, layer, side) for side in _CHANNELS} for layer in widths.layers
        ]
        self._unit, self._shape = unit, shape
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
                blocks = blocks_of(of_layer, side, head, pruning, widths.layers[number])
                size = self._sizes(number)[side]
                self.blocks[number, head, side] = [(of_layer.per_parameter(score, size), m) for score, m in blocks]
                order = [channel for _, members in blocks for _, channel in members]
                self._remaining[number, head, side] = of_layer.remaining_scores(side, head, order)[
                    :: self._channels[number][side]
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
        return {side: self._unit.cost(number, side) * self._channels[number][side] for side in _CHANNELS}

    def _sizes(self, number: int) -> dict[Side, int]:
        """What scores of one block of either side are divided by: parameters; beside neurons, costs in the target's unit."""
        if self._by_cost:
            return self.block_cost(number)
        block = self._shape.attention[number]
        return {
            "qk": accounting.qk_channel_parameters(block) * self._channels[number]["qk"],
            "vo": accounting.vo_channel_parameters(block) * self._channels[number]["vo"],
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
        self._heap: list[tuple[float, Side, int, int, tuple[int, ...]]] = []

    def go_on(self, *, patient: bool) -> None:
        """Take what brings the budgets nearer, least score per parameter first; `patient`: unless smaller will do."""
        for number, heads in self._alive.items():
            self._offer_heads(number, heads)
            for head in (_ALL,) if self._of.even[number] else heads:
                for side in _CHANNELS:
                    self._offer(number, head, side)
        for number in self._neurons:
            self._offer_neurons(number)
        while self._heap:
            density, kind, number, head, stamp = heapq.heappop(self._heap)
            if kind == "neuron":
                # A block has one entry at a time, its next neurons: none is ever out of date.
                self._consider_neurons(number)
            elif self._current(number, head) and self._stamp(number, head, kind) == stamp:
                self._consider(density, kind, number, head, patient)

    def _current(self, number: int, head: int) -> list[int]:
        """The heads an entry is about, of those that are left."""
        alive = self._alive[number]
        return sorted(alive) if head == _ALL else [head] if head in alive else []

    def _stamp(self, number: int, head: int, kind: Side) -> tuple[int, ...]:
        """Blocks taken of what a structure is made of, and its heads; an entry with another stamp is out of date."""
        heads = self._current(number, head)
        qk, vo = self._taken[number, heads[0], "qk"], self._taken[number, heads[0], "vo"]
        return (0 if kind == "vo" else qk, 0 if kind == "qk" else vo, len(heads))

    def _offer_heads(self, number: int, heads: Iterable[int]) -> None:
        for head in heads:
            self._offer(number, head, "head")

    def _offer(self, number: int, head: int, kind: Side) -> None:
        """Put a head, or the next block of a side of one head or of all, on the heap, if there is one to take."""
        heads = self._current(number, head)
        if not heads:
            return
        stamp = self._stamp(number, head, kind)
        if kind == "head":
            density = self._of.density(number, head, *stamp[:2])
        else:
            at = self._taken[number, heads[0], kind]
            if at >= len(self._of.blocks[number, heads[0], kind]) - self._of.kept[number][kind]:
                return
            density = sum(self._of.blocks[number, one, kind][at][0] for one in heads) / len(heads)
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
        heads = self._current(number, head)
        block_cost = {side: cost * len(heads) for side, cost in self._of.block_cost(number).items()}
        costs = {side: cost for side, cost in block_cost.items() if kind in ("head", side)}
        if kind == "head":
            if len(self._alive[number]) <= self._of.least_heads:
                return
            left = {side: len(self._of.blocks[number, head, side]) - self._taken[number, head, side] for side in costs}
            costs = {side: cost * left[side] for side, cost in costs.items()}
        gaps = self._gaps
        charges = {"": sum(costs.values())} if "" in gaps else dict(costs)
        slack = (
            min(block_cost.values()) / 2 * (len(self._alive[number]) if self._of.even[number] and kind == "head" else 1)
        )
        for side, cost in charges.items():
            nearer = abs(gaps[side] - cost) < abs(gaps[side])
            if not nearer or (kind == "head" and patient and cost - gaps[side] > slack):
                return
        for side, cost in charges.items():
            gaps[side] -= cost
        if kind == "head":
            members: Members = ((head, -1),)
            self._alive[number].remove(head)
            if self._of.even[number]:
                for side in _CHANNELS:
                    self._offer(number, _ALL, side)
        else:
            at = self._taken[number, heads[0], kind]
            members = tuple(pair for one in heads for pair in self._of.blocks[number, one, kind][at][1])
            for one in heads:
                self._taken[number, one, kind] = at + 1
            self._offer(number, head, kind)
            self._offer_heads(number, heads)
        self.chosen.append(Structure(number, kind, len(self.chosen), members, density, sum(costs.values())))
