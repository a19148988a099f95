"""Structures: what leaves together at each granularity, and what it costs and scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from api_schemas.accounting import ModelShape, qk_channel_parameters, vo_channel_parameters
from api_schemas.enums import Granularity
from api_schemas.widths import AttentionWidths, LayerWidths
from worker.engine.scoring.channels import LayerScores


@dataclass(frozen=True)
class Structure:
    """The channels that one decision removes from one layer.

    `side` is `qk`, `vo`, or `head` for both. `members` are (head, channel) pairs; the channel of a whole head is -1.
    """

    layer: int
    side: str
    rank: int
    """Position among the layer's structures of this side, least important first."""
    members: tuple[tuple[int, int], ...]
    score: float
    parameters: int


def _head_structures(
    number: int, layer: LayerWidths, scores: LayerScores, shape: ModelShape, finish: Callable[[float], float], kept: int
) -> list[Structure]:
    """Whole heads: QK and VO of the head together, all but the `kept` best."""
    totals = [finish(float(scores.qk[h].sum() + scores.vo[h].sum())) for h in range(layer.heads)]
    order = sorted(range(layer.heads), key=lambda h: (totals[h], h))
    costs = [
        layer.qk[h] * qk_channel_parameters(shape) + layer.vo[h] * vo_channel_parameters(shape)
        for h in range(layer.heads)
    ]
    removable = order[: max(0, layer.heads - kept)]
    return [Structure(number, "head", rank, ((h, -1),), totals[h], costs[h]) for rank, h in enumerate(removable)]


def _channel_structures(
    number: int,
    side: str,
    vectors: Sequence[torch.Tensor],
    cost: int,
    granularity: Granularity,
    finish: Callable[[float], float],
    kept: int,
) -> list[Structure]:
    """Slices through all heads of a layer, one channel of each: the same index, or the same rank."""
    scores_HK = torch.stack(list(vectors))
    heads, width = scores_HK.shape
    if granularity is Granularity.SAME_CHANNEL:
        totals = [finish(float(total)) for total in scores_HK.sum(0)]
        order = sorted(range(width), key=lambda c: (totals[c], c))
        slices = [(totals[c], tuple((h, c) for h in range(heads))) for c in order]
    else:
        # Each head sorts its own channels; slice r takes the r-th least of every head.
        order_HK = torch.argsort(scores_HK, dim=1, stable=True)
        slices = []
        for rank in range(width):
            members = tuple((h, int(order_HK[h, rank])) for h in range(heads))
            slices.append((sum(finish(float(scores_HK[h, c])) for h, c in members), members))
    removable = slices[: max(0, width - kept)]
    return [
        Structure(number, side, rank, members, total, cost * heads) for rank, (total, members) in enumerate(removable)
    ]


def structures(
    widths: AttentionWidths,
    scores: Sequence[LayerScores],
    shape: ModelShape,
    granularity: Granularity,
    *,
    finish: Callable[[float], float],
    min_heads: int,
    min_channels: int,
) -> list[Structure]:
    """Everything that may still be removed, with its score and its parameters.

    Within a layer and side, structures come least important first and their scores never fall, so that a ranking which
    takes the lowest first always takes a prefix of each.

    Raises ValueError where a channel granularity meets a layer whose heads differ in width.
    """
    found: list[Structure] = []
    for number, (layer, layer_scores) in enumerate(zip(widths.layers, scores, strict=True)):
        if granularity is Granularity.ENTIRE_HEAD:
            found += _head_structures(number, layer, layer_scores, shape, finish, min_heads)
            continue
        if not layer.uniform:
            raise ValueError(f"{granularity.value} needs heads of equal width; layer {number} has {layer}")
        for side, cost in (("qk", qk_channel_parameters(shape)), ("vo", vo_channel_parameters(shape))):
            found += _channel_structures(number, side, layer_scores.side(side), cost, granularity, finish, min_channels)
    return found
