"""Structures: what is removed together at each granularity, with its cost and score."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from api_schemas.enums import Basis, Granularity, Normalization
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import (
    channels_a_block,
    included_neurons,
    least_blocks,
    least_heads,
    least_neurons,
)
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import ModelShape
from worker.engine.scoring import LayerScores, NeuronScores
from worker.engine.scoring.channels import Side

Members = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Structure:
    """The channels that one decision removes from one attention, or the neurons from one feed-forward block, whose number
    `layer` then is.

    `side` is `qk`, `vo`, `head` for both, or `neuron`. `members` are (head, channel) pairs; the channel of a whole head is -1.
    """

    layer: int
    side: Side
    rank: int
    """Position among the structures it is ordered with, least important first."""
    members: Members
    score: float
    """After normalization: what the ranking compares."""
    cost: int
    """In the target's unit: parameters or FLOPs."""


@dataclass(frozen=True)
class _Group:
    """Structures of one layer that go in order, least important first, all but the `kept` best."""

    side: Side
    found: list[tuple[float, Members]]
    kept: int


def blocks_of(
    scores: LayerScores, side: Side, head: int, pruning: Pruning, layer: LayerWidths | None = None
) -> list[tuple[float, Members]]:
    """One head's channels in blocks of `align` ranks, each with its score as a set, in the order in which they go.

    Native channels go by rising score. Principal ones are there in falling order of energy and go from the last: a block that
    scores less than one that has to go before it is no cheaper than that one. Those that positions rotate, or that go with their
    head alone, are native ones whatever the basis, and a rank of them is a pair, or all.

    layer: the widths, where `side` is one of an attention.
    """
    if layer is not None and side == "qk" and layer.qk_unit > 1:
        return _blocks_of_units(scores, side, head, layer, pruning)
    vector_K, align = scores.side(side)[head], pruning.multiple
    if pruning.basis is Basis.PRINCIPAL:
        order = list(range(len(vector_K)))[::-1]
    else:
        order = [int(c) for c in torch.argsort(vector_K, stable=True)]
    values = vector_K.tolist()
    blocks = [tuple((head, c) for c in sorted(order[at : at + align])) for at in range(0, len(order), align)]
    scored = [(values[block[0][1]] if align == 1 else scores.of(side, block), block) for block in blocks]
    return _in_order(scored, pruning)


def _blocks_of_units(
    scores: LayerScores, side: Side, head: int, layer: LayerWidths, pruning: Pruning
) -> list[tuple[float, Members]]:
    """The same of channels that go by several, in blocks of as many of these as make a multiple of `align`."""
    units = [tuple((head, c) for c in unit) for unit in layer.units(side, head)]
    ranked = sorted(units, key=lambda unit: scores.of(side, unit))
    together = channels_a_block(pruning, layer, side) // layer.qk_unit
    blocks = [
        tuple(sorted(pair for unit in ranked[at : at + together] for pair in unit))
        for at in range(0, len(ranked), together)
    ]
    return sorted((scores.of(side, block), block) for block in blocks)


def _in_order(scored: list[tuple[float, Members]], pruning: Pruning) -> list[tuple[float, Members]]:
    if pruning.basis is not Basis.PRINCIPAL:
        return sorted(scored)
    rising = accumulate((score for score, _ in scored), max)
    return [(score, members) for score, (_, members) in zip(rising, scored, strict=True)]


def _heads(scores: LayerScores, layer: LayerWidths, kept: int) -> list[_Group]:
    """Whole heads: QK and VO of the head together."""
    return [_Group("head", sorted((scores.of("head", [(h, -1)]), ((h, -1),)) for h in range(layer.heads)), kept)]


def _same_channel(scores: LayerScores, layer: LayerWidths, pruning: Pruning) -> list[_Group]:
    """One channel index in every head."""
    groups, align = [], pruning.multiple
    for side, widths in _sides(layer):
        heads, width = range(layer.heads), widths[0]
        if side == "qk" and layer.rotary:
            groups.append(_same_units(scores, layer, pruning))
            continue
        slices = _in_order([(scores.of(side, [(h, c) for h in heads]), ((0, c),)) for c in range(width)[::-1]], pruning)
        order = [members[0][1] for _, members in slices]
        blocks = [sorted(order[at : at + align]) for at in range(0, width, align)]
        found = [tuple((h, c) for h in heads for c in block) for block in blocks]
        scored = _in_order([(scores.of(side, block), block) for block in found], pruning)
        groups.append(_Group(side, scored, least_blocks(pruning, layer, side)))
    return groups


def _same_units(scores: LayerScores, layer: LayerWidths, pruning: Pruning) -> _Group:
    """One place among the pairs that positions rotate, in every head: where all are left, one angle."""
    side: Side = "qk"
    places = layer.units(side, 0)
    if any(layer.units(side, head) != places for head in range(layer.heads)):
        raise ValueError(f"same_channel needs heads with as many rotated pairs each; found {layer}")

    def members(chosen: Sequence[tuple[int, ...]]) -> Members:
        return tuple((head, c) for head in range(layer.heads) for unit in chosen for c in unit)

    ranked = sorted(places, key=lambda unit: scores.of(side, members([unit])))
    together = channels_a_block(pruning, layer, side) // layer.qk_unit
    found = [members(sorted(ranked[at : at + together])) for at in range(0, len(ranked), together)]
    return _Group(side, sorted((scores.of(side, each), each) for each in found), least_blocks(pruning, layer, side))


def _per_head(scores: LayerScores, layer: LayerWidths, pruning: Pruning) -> list[_Group]:
    """One rank in every head: each sorts its own channels, slice r takes the r-th least of each, scores are added."""
    groups = []
    for side, _ in _sides(layer):
        by_head = [blocks_of(scores, side, h, pruning, layer) for h in range(layer.heads)]
        found = []
        for parts in zip(*by_head, strict=True):
            found.append((sum(score for score, _ in parts), tuple(pair for _, block in parts for pair in block)))
        groups.append(_Group(side, found, least_blocks(pruning, layer, side)))
    return groups


def _ragged(scores: LayerScores, layer: LayerWidths, pruning: Pruning) -> list[_Group]:
    """Any channel of any head."""
    return [
        _Group(side, blocks_of(scores, side, h, pruning, layer), least_blocks(pruning, layer, side))
        for side, widths in _sides(layer)
        for h in range(len(widths))
    ]


def _sides(layer: LayerWidths) -> tuple[tuple[Side, tuple[int, ...]], ...]:
    """Those of which channels may go alone, and their widths by head."""
    return (("vo", layer.vo),) if layer.qk_whole else (("qk", layer.qk), ("vo", layer.vo))


def _groups(scores: LayerScores, layer: LayerWidths, pruning: Pruning) -> list[_Group]:
    match pruning.granularity:
        case Granularity.ENTIRE_HEAD:
            return _heads(scores, layer, least_heads(pruning))
        case Granularity.SAME_CHANNEL | Granularity.PER_HEAD if not layer.uniform:
            raise ValueError(f"{pruning.granularity.value} needs heads of equal width; found {layer}")
        case Granularity.SAME_CHANNEL:
            return _same_channel(scores, layer, pruning)
        case Granularity.PER_HEAD:
            return _per_head(scores, layer, pruning)
        case Granularity.RAGGED:
            return _ragged(scores, layer, pruning)
        case Granularity.HEAD_AND_CHANNEL | Granularity.HEAD_AND_WIDTH:
            raise ValueError("heads and channels do not go in a fixed order: see head_and_channel.py")


def structures(
    widths: AttentionWidths,
    scores: Sequence[LayerScores],
    shape: ModelShape,
    unit: CostUnit,
    pruning: Pruning,
    included: Sequence[int],
) -> list[Structure]:
    """Everything that may still be removed from the attentions numbered `included`, with its score and its cost in `unit`.

    Within a layer, and a side or head where these are ranked apart, structures come least important first and their scores
    never fall, so that a ranking which takes the lowest first always takes a prefix of each.

    Normalization: `layer` divides by the mean score of the layer's structures, those that have to stay included. The mean
    follows a rescaling of the layer's scores, as any scale does; unlike a norm or a sum it does not grow with their number,
    and unlike the largest it does not hang on one structure. It is taken over QK and VO together: how these compare inside
    a layer is `balance`'s affair. `parameters` divides each score by the parameters that go with it (norms are squared
    first: LayerScores.per_parameter).

    Where feed-forward neurons are ranked with them, sizes differ by much and scores are divided by costs in the target's unit.

    Raises ValueError where same_channel or per_head meets a layer whose heads differ in width.
    """
    result: list[Structure] = []
    for number in included:
        layer, block = widths.layers[number], shape.attention[number]
        groups = _groups(scores[number], layer, pruning) if layer.heads else []
        everything = [score for group in groups for score, _ in group.found]
        scale = 1.0
        if pruning.normalization is Normalization.LAYER:
            # Where all scores are zero there is nothing to divide by, and nothing to tell apart.
            scale = sum(everything) / max(len(everything), 1) or 1.0
        for group in groups:
            for rank, (score, members) in enumerate(group.found[: max(0, len(group.found) - group.kept)]):
                qk, vo = channels_in(layer, group.side, members)
                parameters = qk * accounting.qk_channel_parameters(block) + vo * accounting.vo_channel_parameters(block)
                cost = qk * unit.qk[number] + vo * unit.vo[number]
                value = score / scale
                if pruning.joint_parts:
                    value = scores[number].per_parameter(value, cost)
                elif pruning.normalization is Normalization.PARAMETERS:
                    value = scores[number].per_parameter(score, parameters)
                result.append(Structure(number, group.side, rank, members, value, cost))
    return result


def neuron_structures(
    scores: Sequence[NeuronScores], shape: ModelShape, unit: CostUnit, pruning: Pruning
) -> list[Structure]:
    """Neurons, in blocks of `align`, that may still be removed; as `structures` otherwise. Members are (0, neuron)."""
    native = pruning.model_copy(update={"basis": Basis.NATIVE})
    kept = least_neurons(pruning) // pruning.multiple
    result: list[Structure] = []
    for number in included_neurons(shape, pruning):
        of_block = scores[number].scores
        found = blocks_of(of_block, "vo", 0, native)
        scale = 1.0
        if pruning.normalization is Normalization.LAYER:
            scale = sum(score for score, _ in found) / max(len(found), 1) or 1.0
        parameters = accounting.neuron_parameters(shape.feed_forward[number]) * pruning.multiple
        cost = unit.neuron[number] * pruning.multiple
        for rank, (score, members) in enumerate(found[: max(0, len(found) - kept)]):
            value = score / scale
            if pruning.joint_parts:
                value = of_block.per_parameter(value, cost)
            elif pruning.normalization is Normalization.PARAMETERS:
                value = of_block.per_parameter(score, parameters)
            result.append(Structure(number, "neuron", rank, members, value, cost))
    return result


def channels_in(layer: LayerWidths, side: Side, members: Members) -> tuple[int, int]:
    """How many QK and how many VO channels go with these members."""
    if side == "head":
        return sum(layer.qk[h] for h, _ in members), sum(layer.vo[h] for h, _ in members)
    return (len(members), 0) if side == "qk" else (0, len(members))
