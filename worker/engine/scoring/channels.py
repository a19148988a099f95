"""From scores of single channels to the score of a set of channels that are removed together.

A structure is the set of weights and biases that are removed together. The arithmetic forces two couplings: a QK channel is a row
of W_q and the same row of W_k; a VO channel is a row of W_v and the same column of W_o. How the score of a set depends on its
channels differs by criterion; `LayerScores.of` computes it. Shapes: C channels of one side of a layer, all heads one after
another.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worker.engine.models.attention import AttentionBlock

Side = Literal["qk", "vo", "head", "neuron"]
Members = Sequence[tuple[int, int]]
"""(head, channel) pairs; of side `head`, (head, -1)."""


@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer's channels, and of any set of them. This class: a set scores the sum of its channels.

    `qk[h]` and `vo[h]` are float64 vectors as long as head h is wide, never negative: the finished scores of channels
    that leave alone.
    """

    qk: tuple[Tensor, ...]
    vo: tuple[Tensor, ...]

    def side(self, side: str) -> tuple[Tensor, ...]:
        """`qk` or `vo`."""
        return self.qk if side == "qk" else self.vo

    def of(self, side: Side, members: Members) -> float:
        """The score of these channels leaving together. An empty set scores 0."""
        if side == "head":
            return sum(float(self.qk[h].sum() + self.vo[h].sum()) for h, _ in members)
        return sum(float(self.side(side)[h][c]) for h, c in members)

    def remaining_scores(self, side: str, head: int, order: Sequence[int]) -> Tensor:
        """What is left of one side of a head scores so much, once the first 0, 1, … of `order`, all its channels, are gone."""
        return _remaining_sums(self.side(side)[head][list(order)])

    def head_of(self, qk: float, vo: float) -> float:
        """What a head scores whose sides, or what is left of them, score `qk` and `vo`."""
        return qk + vo

    def per_parameter(self, score: float, parameters: int) -> float:
        """A score by which structures of different sizes compare: equal for a structure and for its equal parts."""
        return score / parameters

    def positions(self, side: str, members: Iterable[tuple[int, int]]) -> Tensor:
        """Members of `qk` or `vo` as positions among that side's C channels; channel -1 is the whole head."""
        vectors = self.side(side)
        starts = [0]
        for vector in vectors:
            starts.append(starts[-1] + len(vector))
        found: list[int] = []
        for h, c in members:
            found += range(starts[h], starts[h + 1]) if c < 0 else (starts[h] + c,)
        return torch.tensor(found, dtype=torch.long)


@dataclass(frozen=True)
class NormScores(LayerScores):
    """A set scores the L2 norm of all its parameters; so does a channel."""

    def of(self, side: Side, members: Members) -> float:
        if side == "head":
            squares = (float(self.qk[h].square().sum() + self.vo[h].square().sum()) for h, _ in members)
        else:
            squares = (float(self.side(side)[h][c]) ** 2 for h, c in members)
        return math.sqrt(sum(squares))

    def remaining_scores(self, side: str, head: int, order: Sequence[int]) -> Tensor:
        return _remaining_sums(self.side(side)[head][list(order)].square()).sqrt()

    def head_of(self, qk: float, vo: float) -> float:
        return math.hypot(qk, vo)

    def per_parameter(self, score: float, parameters: int) -> float:
        """The mean square: norms do not add up, and a norm per parameter would fall with the root of the size."""
        return score**2 / parameters


@dataclass(frozen=True)
class SignedScores(LayerScores):
    """A set scores the absolute value of a signed sum, in which channels cancel; a whole head scores its VO side.

    `qk_signed` and `vo_signed` are the signed numbers (C) of all channels, float64.
    """

    qk_signed: Tensor
    vo_signed: Tensor

    def of(self, side: Side, members: Members) -> float:
        side = "vo" if side == "head" else side
        total_C = self.qk_signed if side == "qk" else self.vo_signed
        return abs(float(total_C[self.positions(side, members)].sum()))

    def remaining_scores(self, side: str, head: int, order: Sequence[int]) -> Tensor:
        total_C = self.qk_signed if side == "qk" else self.vo_signed
        return _remaining_sums(total_C[self.positions(side, [(head, c) for c in order])]).abs()

    def head_of(self, qk: float, vo: float) -> float:
        del qk
        return vo


@dataclass(frozen=True)
class GateScores(LayerScores):
    """A set scores E[(Σ of its channels' gate gradients)²]; a whole head scores its VO side.

    `qk_gates` and `vo_gates` are the second moments (C, C) of the gate gradients of all channels, float64: the score
    of a set is the sum of its square block.
    """

    qk_gates: Tensor
    vo_gates: Tensor

    def of(self, side: Side, members: Members) -> float:
        side = "vo" if side == "head" else side
        moment_CC = self.qk_gates if side == "qk" else self.vo_gates
        positions = self.positions(side, members)
        # A sum of squares: below zero only by rounding.
        return max(0.0, float(moment_CC[positions][:, positions].sum()))

    def remaining_scores(self, side: str, head: int, order: Sequence[int]) -> Tensor:
        moment_CC = self.qk_gates if side == "qk" else self.vo_gates
        positions = self.positions(side, [(head, c) for c in order])
        square_KK = moment_CC[positions][:, positions]
        # From the last corner: each further channel adds its row and its column among those that are left.
        return _remaining_sums(2 * _remaining_sums(square_KK.mT)[:-1].diagonal() - square_KK.diagonal()).clamp_min(0.0)

    def head_of(self, qk: float, vo: float) -> float:
        del qk
        return vo


def _remaining_sums(values: Tensor) -> Tensor:
    """Sums of what is left along the first dimension once the first 0, 1, …, all are gone."""
    sums = values.flip(0).cumsum(0).flip(0)
    return torch.cat([sums, sums.new_zeros(1, *sums.shape[1:])])


def by_head(block: AttentionBlock, side: str, numbers_C: Tensor) -> tuple[Tensor, ...]:
    """One number a channel of k's or of v's side -> a vector a head."""
    return tuple(numbers_C[block.rows(side, h)] for h in range(block.widths.heads))
