"""Selection: takes scores and a target, returns the channels to keep.

A target is met to the nearest structure: structures are removed in rising order of score as long as one more brings the removed
amount, in the target's unit, closer to the target (docs/adr/0004-nearest-structure.md). With a local scope every layer meets the
target on its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api_schemas.enums import Balance, Granularity, Layout, Scope, TargetKind
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import WITH_HEADS, included_blocks, included_neurons
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.models.feed_forward import Neurons, all_neurons, compose_neurons
from worker.engine.pruning.head_and_channel import HeadAndChannel
from worker.engine.pruning.structures import Structure, neuron_structures, structures
from worker.engine.scoring import LayerScores, NeuronScores


@dataclass(frozen=True)
class KeptHead:
    """One head that is kept: its number and its channels, all as numbered in the model before the cut."""

    head: int
    qk: tuple[int, ...]
    vo: tuple[int, ...]


KeptHeads = tuple[tuple[KeptHead, ...], ...]
"""By layer, the heads that are kept."""


def keep_all(widths: AttentionWidths) -> KeptHeads:
    """Nothing is cut."""
    return tuple(
        tuple(KeptHead(h, tuple(range(layer.qk[h])), tuple(range(layer.vo[h]))) for h in range(layer.heads))
        for layer in widths.layers
    )


@dataclass(frozen=True)
class Selection:
    """What is kept of a model: of every attention, and of every feed-forward block."""

    heads: KeptHeads
    neurons: Neurons

    @classmethod
    def all(cls, widths: AttentionWidths) -> "Selection":
        """Nothing is cut."""
        return cls(keep_all(widths), all_neurons(widths))

    def then(self, second: "Selection") -> "Selection":
        """`second`, which uses the numbering of the model after this cut, in the numbering of the model before it."""
        return Selection(compose(self.heads, second.heads), compose_neurons(self.neurons, second.neurons))

    def widths(self, before: AttentionWidths) -> AttentionWidths:
        """The widths that remain of a model with the widths `before`."""
        neurons = tuple(map(len, self.neurons))
        return widths_of(self.heads, before).model_copy(update={"feed_forward": neurons})


def widths_of(keep: KeptHeads, before: AttentionWidths) -> AttentionWidths:
    """The widths that `keep` leaves of a model with the widths `before`, with all neurons kept."""
    layers = tuple(
        LayerWidths(
            qk=tuple(len(head.qk) for head in kept),
            vo=tuple(len(head.vo) for head in kept),
            numbers=tuple(layer.numbers[head.head] for head in kept),
            rotary=tuple(layer.kept_pairs(head.head, head.qk) for head in kept) if layer.rotary else (),
            qk_whole=layer.qk_whole,
        )
        for layer, kept in zip(before.layers, keep, strict=True)
    )
    return before.model_copy(update={"layers": layers})


def compose(first: KeptHeads, second: KeptHeads) -> KeptHeads:
    """`second`, which uses the numbering of the model after `first`, in the numbering of the model before `first`."""
    layers = []
    for before, after in zip(first, second, strict=True):
        heads = []
        for cut in after:
            old = before[cut.head]
            heads.append(KeptHead(old.head, tuple(old.qk[c] for c in cut.qk), tuple(old.vo[c] for c in cut.vo)))
        layers.append(tuple(heads))
    return tuple(layers)


def _nearest(candidates: Sequence[Structure], amount: float) -> list[Structure]:
    """The shortest prefix of the ranking whose cost is nearest to `amount`."""
    ranked = sorted(candidates, key=lambda s: (s.score, s.layer, s.side, s.rank, s.members))
    taken, removed = 0, 0
    for structure in ranked:
        if abs(removed + structure.cost - amount) >= abs(removed - amount):
            break
        removed += structure.cost
        taken += 1
    return ranked[:taken]


def _equal_counts(candidates: Iterable[Structure], amount: float) -> list[Structure]:
    """For a stock layout: the same number of structures from every layer and side, with the total cost nearest to `amount`."""
    groups: dict[tuple[int, str], list[Structure]] = defaultdict(list)
    for structure in candidates:
        groups[structure.layer, structure.side].append(structure)
    shortest = min((len(group) for group in groups.values()), default=0)
    each = [sum(group[rank].cost for group in groups.values()) for rank in range(shortest)]
    count, removed = 0, 0
    while count < shortest and abs(removed + each[count] - amount) < abs(removed - amount):
        removed += each[count]
        count += 1
    return [structure for group in groups.values() for structure in group[:count]]


class Ranking:
    """Structures of a model as it is now, scored once; `heads` may be called for any share, any number of times.

        Args:
            scores: one per layer, of the model's present channels.
            widths: the model's present widths; earlier steps may have cut it.
            shape: of the ORIGINAL model, to which shares refer.
            included: the attentions that may be cut; by default those that the spec does not exclude.
            neurons: scores of the feed-forward blocks, if these are cut.
            kind: the unit of shares; the target's own by default. Not latency: targets.py converts it to another.

    Raises ValueError for a granularity that needs heads of equal width if they differ, and for latency.
    """

    def __init__(
        self,
        scores: Sequence[LayerScores],
        widths: AttentionWidths,
        shape: ModelShape,
        pruning: Pruning,
        kind: TargetKind | None = None,
        included: Sequence[int] | None = None,
        neurons: Sequence[NeuronScores] = (),
    ) -> None:
        self._widths, self._pruning = widths, pruning
        self._unit = unit = CostUnit.of(shape, kind or pruning.target.kind)
        self._of_neurons = neuron_structures(neurons, shape, unit, pruning) if neurons else []
        self._cut_neurons = included_neurons(shape, pruning)
        self._included = included_blocks(shape, pruning) if included is None else tuple(included)
        self._mixed: HeadAndChannel | None = None
        self._structures: list[Structure] = []
        if pruning.granularity in WITH_HEADS:
            competing = self._of_neurons if pruning.joint_parts else ()
            self._mixed = HeadAndChannel(widths, scores, shape, unit, pruning, self._included, competing)
        else:
            self._structures = structures(widths, scores, shape, unit, pruning, self._included)

    def heads(self, share: float) -> KeptHeads:
        """The heads and channels to keep once `share` of the original is removed, to the nearest structure."""
        return remaining_heads(self._widths, self._chosen(share))

    def heads_and_neurons(self, share: float) -> tuple[KeptHeads, Neurons]:
        """The same and, by the same ranking, the neurons to keep: all if only attention is cut, or a share of their own."""
        chosen = self._chosen(share)
        return remaining_heads(self._widths, chosen), remaining_neurons(self._widths, chosen)

    def neurons(self, share: float) -> Neurons:
        """The neurons to keep once `share` of the original's feed-forward blocks is removed, if only these are cut."""
        pruning = self._pruning
        everywhere = pruning.scope is Scope.LOCAL
        rankings = [(number,) for number in self._cut_neurons] if everywhere else [self._cut_neurons]
        if pruning.layout is Layout.STOCK:
            chosen = _equal_counts(self._of_neurons, self._neuron_budget(share, self._cut_neurons))
            return remaining_neurons(self._widths, chosen)
        chosen = []
        for numbers in rankings:
            members = [structure for structure in self._of_neurons if structure.layer in numbers]
            chosen += _nearest(members, self._neuron_budget(share, numbers))
        return remaining_neurons(self._widths, chosen)

    def _neuron_budget(self, share: float, numbers: Sequence[int]) -> float:
        part = self._unit.original(numbers, "neuron") / self._unit.original(self._cut_neurons, "neuron")
        return share * self._unit.total * part - self._unit.removed(self._widths, numbers, "neuron")

    def _chosen(self, share: float) -> list[Structure]:
        if self._pruning.joint_parts:
            budget = share * self._unit.total - self._unit.removed(self._widths, self._included)
            budget -= self._unit.removed(self._widths, self._cut_neurons, "neuron")
            if self._mixed is not None:
                return self._mixed.take(self._included, {"": budget})
            return _nearest([*self._structures, *self._of_neurons], budget)
        if self._pruning.layout is Layout.STOCK:
            return _equal_counts(self._structures, self._budget(share, self._included))
        local = self._pruning.scope is Scope.LOCAL
        rankings = [(number,) for number in self._included] if local else [self._included]
        by_side = self._pruning.balance is Balance.EQUAL and self._pruning.granularity is not Granularity.ENTIRE_HEAD
        sides = ("qk", "vo") if by_side else ("",)
        chosen: list[Structure] = []
        for numbers in rankings:
            budgets = {side: self._budget(share, numbers, side) for side in sides}
            if self._mixed is not None:
                chosen += self._mixed.take(numbers, budgets)
                continue
            members = [structure for structure in self._structures if structure.layer in numbers]
            for side, budget in budgets.items():
                chosen += _nearest([structure for structure in members if side in ("", structure.side)], budget)
        return chosen

    def _budget(self, share: float, numbers: Sequence[int], side: str = "") -> float:
        """What these attentions, or one side of them, still have to lose, in the unit of the target.

        Those that may be cut bear the whole target, each in proportion to its original size. QK and VO, if they have separate
        budgets, lose the same share of what they had.
        """
        # Nothing to divide if an earlier job left no heads.
        part = self._unit.original(numbers, side) / max(1, self._unit.original(self._included))
        return share * self._unit.total * part - self._unit.removed(self._widths, numbers, side)


def select(
    scores: Sequence[LayerScores], widths: AttentionWidths, shape: ModelShape, pruning: Pruning, *, share: float
) -> KeptHeads:
    """The channels to keep once `share` of the ORIGINAL model is removed, in the target's unit: see Ranking."""
    return Ranking(scores, widths, shape, pruning).heads(share)


def remaining_neurons(widths: AttentionWidths, chosen: Iterable[Structure]) -> Neurons:
    """The neurons that remain when the chosen structures are removed."""
    gone: dict[int, set[int]] = defaultdict(set)
    for structure in chosen:
        if structure.side == "neuron":
            gone[structure.layer].update(neuron for _, neuron in structure.members)
    return tuple(
        tuple(n for n in range(neurons) if n not in gone[number]) for number, neurons in enumerate(widths.feed_forward)
    )


def remaining_heads(widths: AttentionWidths, chosen: Iterable[Structure]) -> KeptHeads:
    """The heads that remain when the chosen structures are removed."""
    gone: dict[tuple[int, str], set[tuple[int, int]]] = defaultdict(set)
    for structure in chosen:
        gone[structure.layer, structure.side].update(structure.members)
    layers = []
    for number, layer in enumerate(widths.layers):
        heads = []
        for h in range(layer.heads):
            if (h, -1) in gone[number, "head"]:
                continue
            qk = tuple(c for c in range(layer.qk[h]) if (h, c) not in gone[number, "qk"])
            vo = tuple(c for c in range(layer.vo[h]) if (h, c) not in gone[number, "vo"])
            heads.append(KeptHead(h, qk, vo))
        layers.append(tuple(heads))
    return tuple(layers)
