"""From one number a weight to one number a channel, a head, a slice.

A structure is the set of weights and biases that leave together. Two couplings are forced by the arithmetic: a QK
channel is a row of W_q and the same row of W_k; a VO channel is a row of W_v and the same column of W_o. What a
criterion says of a structure is a sum over its parameters, so channels add up to heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from worker.engine.attention import AttentionBlock

Statistic = Callable[[str], tuple[Tensor, Tensor | None]]
"""Projection name -> a number for each weight (O, I) and each bias (O)."""


@dataclass(frozen=True)
class LayerScores:
    """Additive scores of one layer's channels: `qk[h]` and `vo[h]` are float64 vectors as long as head h is wide."""

    qk: tuple[Tensor, ...]
    vo: tuple[Tensor, ...]

    def side(self, side: str) -> tuple[Tensor, ...]:
        """`qk` or `vo`."""
        return self.qk if side == "qk" else self.vo


def _by_channel(statistic: tuple[Tensor, Tensor | None], side: str) -> Tensor:
    weight, bias = statistic
    total = weight.double().sum(0 if side == "o" else 1)
    # b_o belongs to no channel: it stays whatever is cut.
    return total if bias is None or side == "o" else total + bias.double()


def channel_scores(blocks: Sequence[AttentionBlock], statistic: Statistic) -> tuple[LayerScores, ...]:
    """Sum `statistic` over every channel's parameters, weights and biases, both projections of its pair."""
    scores = []
    for block in blocks:
        total = {side: _by_channel(statistic(block.names[side]), side).cpu() for side in block.projections}
        qk, vo = total["q"] + total["k"], total["v"] + total["o"]
        heads = range(block.widths.heads)
        scores.append(
            LayerScores(tuple(qk[block.rows("q", h)] for h in heads), tuple(vo[block.rows("v", h)] for h in heads))
        )
    return tuple(scores)
