"""Neurons of feed-forward blocks: what one pass over samples collects about them, and their scores by each criterion.

A neuron is to its second map what a VO channel is to W_o: a column by which its activation is multiplied. So every criterion is
defined as there (criteria.py), with the activation in place of the context. The basis is always the model's own, because a
rotation does not pass through the activation function. In a gated block a neuron's activation is the product, act(first)·up, and
it has a row in both maps. Sets of neurons score the sum of their members: gates that cancel would need a second moment of all
pairs, which for thousands of neurons does not fit in memory. Shapes: B samples, T tokens, N neurons.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from api_schemas.enums import Criterion
from worker.engine.models.feed_forward import FeedForwardBlock
from worker.engine.runtime.mapped import kept_in_file
from worker.engine.runtime.offload import on_host
from worker.engine.scoring.channels import LayerScores, NormScores
from worker.engine.scoring.gradients import Factor
from worker.engine.scoring.observations import NEEDS_GRADIENTS, NeuronObservations, Observations, Statistic

_BY_WEIGHT = frozenset({Statistic.FISHER, Statistic.SALIENCY})


class NeuronObserver:
    """Adds up the statistics of one block. `attach` before the pass, `result` after it."""

    def __init__(self, block: FeedForwardBlock, statistics: Set[Statistic], device: torch.device | None = None) -> None:
        """`device`: where the block computes; None: where its weights are."""
        self.block, self.statistics = block, statistics
        self.samples = 1
        """Of the batch that runs now."""
        self._tokens = 0
        self._tokens_of_all: Tensor | None = None
        names = ("fisher", "saliency", "gate", "gate_square", "sum", "square", "gradient")
        shape, device = block.first.out_features, block.first.weight.device if device is None else device
        self._sums = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in names}

    def attach(self) -> list[RemovableHandle]:
        """Hook the maps."""
        handles = []
        if self.statistics & NEEDS_GRADIENTS:
            handles.append(self.block.first.register_forward_pre_hook(_begin))
        if self.statistics & _BY_WEIGHT:
            handles += [linear.register_forward_hook(self._inner) for linear in self.block.inner]
        handles.append(self.block.second.register_forward_hook(self._second))
        return handles

    def _by_sample(self, x_BTC: Tensor) -> Tensor:
        full = x_BTC.detach()
        full = full.float() if full.dtype in (torch.bfloat16, torch.float16) else full
        return full.reshape(self.samples, -1, full.shape[-1])

    def _inner(self, linear: nn.Linear, args: tuple[Any, ...], y_BTN: Tensor) -> None:
        factor = Factor(on_host(self._by_sample(args[0])))
        factor.rows = linear.out_features

        def gradient(dy_BTN: Tensor) -> None:
            dy_BTN = self._by_sample(dy_BTN)
            self._add_squares(factor, dy_BTN, linear.weight.detach())
            if linear.bias is not None:
                squared_N = dy_BTN.sum(1).square_().sum(0)
                self._sums["fisher"] += squared_N
                self._sums["saliency"] += squared_N * linear.bias.detach().to(squared_N.device).square()

        y_BTN.register_hook(gradient)

    def _second(self, linear: nn.Linear, args: tuple[Any, ...], y_BTD: Tensor) -> None:
        active_BTN: Tensor = args[0]
        kept_BTN = self._by_sample(active_BTN)
        if self.statistics & NEEDS_GRADIENTS:
            # Until the backward pass, of all blocks.
            kept_BTN = on_host(kept_in_file(kept_BTN))
        self._tokens += kept_BTN.shape[0] * kept_BTN.shape[1]
        if Statistic.CONTEXT in self.statistics:
            self._sums["sum"] += kept_BTN.sum((0, 1), dtype=torch.float64)
            self._sums["square"] += kept_BTN.double().square_().sum((0, 1))

        def gradient(dx_BTN: Tensor) -> None:
            dx_BTN = self._by_sample(dx_BTN)
            gate_BN = (dx_BTN * kept_BTN.to(dx_BTN.device)).sum(1).double()
            self._sums["gate"] += gate_BN.sum(0)
            self._sums["gate_square"] += gate_BN.square().sum(0)
            self._sums["gradient"] += dx_BTN.double().square_().sum((0, 1))

        def output_gradient(dy_BTD: Tensor) -> None:
            factor = Factor(self._by_sample(dy_BTD))
            factor.rows = linear.in_features
            self._add_squares(factor, kept_BTN.to(dy_BTD.device), linear.weight.detach().mT)

        if self.statistics & {Statistic.GATES, Statistic.GRADIENTS}:
            active_BTN.register_hook(gradient)
        if self.statistics & _BY_WEIGHT:
            y_BTD.register_hook(output_gradient)

    def _add_squares(self, factor: Factor, dy_BTN: Tensor, weight_NI: Tensor) -> None:
        weighted = Statistic.SALIENCY in self.statistics
        plain_N, weighted_N = factor.squared_norms(dy_BTN, weight_NI.to(dy_BTN.device) if weighted else None)
        self._sums["fisher"] += plain_N
        if weighted_N is not None:
            self._sums["saliency"] += weighted_N

    def sums(self) -> list[Tensor]:
        """What has been added up so far, itself: processes that observe a part of the samples each add these."""
        self._tokens_of_all = torch.tensor(self._tokens)
        return [self._tokens_of_all, *self._sums.values()]

    def result(self, samples: int, draws: int = 1) -> NeuronObservations:
        """The means over what was added; of gradients `draws` times, each time all samples."""
        seen = self._tokens if self._tokens_of_all is None else int(self._tokens_of_all)
        tokens, passes = max(1, seen), samples * draws
        counts = {"sum": tokens, "square": tokens, "gradient": tokens * draws}
        means = {name: (total / counts.get(name, passes)).cpu() for name, total in self._sums.items()}
        return NeuronObservations(
            fisher=means["fisher"],
            saliency=means["saliency"],
            gate=means["gate"],
            gate_square=means["gate_square"],
            mean=means["sum"],
            variance=(means["square"] - means["sum"].square()).clamp_min(0),
            gradient_square=means["gradient"],
            tokens=tokens,
        )


def _begin(_module: nn.Module, args: tuple[Any, ...]) -> None:
    # No parameter asks for a gradient, so the graph has to start somewhere, also where no attention is left before it.
    if not args[0].requires_grad:
        args[0].requires_grad_(True)


@dataclass(frozen=True)
class NeuronScores:
    """The scores of one block's neurons, (N) float64, never negative."""

    scores: LayerScores
    """As VO channels of a single head."""

    @property
    def vector(self) -> Tensor:
        return self.scores.vo[0]


def score_neurons(
    criterion: Criterion,
    blocks: Sequence[FeedForwardBlock],
    observed: Observations | None = None,
    seed: int = 0,
) -> tuple[NeuronScores, ...]:
    """Scores of every block's neurons. ValueError where the criterion needs observations and there are none."""
    if criterion is Criterion.RANDOM:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.rand(block.first.out_features, generator=generator, dtype=torch.float64) for block in blocks]
        return tuple(NeuronScores(LayerScores((), (vector,))) for vector in drawn)
    if criterion is Criterion.MAGNITUDE:
        return tuple(NeuronScores(NormScores((), (_norms(block),))) for block in blocks)
    if observed is None or len(observed.neurons) != len(blocks):
        raise ValueError(f"{criterion.value} needs observations of every feed-forward block")
    return tuple(
        NeuronScores(LayerScores((), (_observed(criterion, block, seen, seen.tokens / observed.tokens),)))
        for block, seen in zip(blocks, observed.neurons, strict=True)
    )


def _observed(criterion: Criterion, block: FeedForwardBlock, seen: NeuronObservations, length: float) -> Tensor:
    match criterion:
        case Criterion.FISHER:
            return seen.fisher
        case Criterion.FISHER_SALIENCY:
            return seen.saliency / 2
        case Criterion.FISHER_GATE:
            return seen.gate_square
        case Criterion.TAYLOR:
            return seen.gate.abs()
        case Criterion.ENERGY:
            return seen.variance * block.second.weight.detach().double().cpu().square().sum(0)
        case Criterion.FISHER_ENERGY:
            return seen.variance * seen.gradient_square * length
    raise ValueError(f"{criterion.value} is not computed from observations")


def _norms(block: FeedForwardBlock) -> Tensor:
    """The L2 norm of every neuron's parameters."""
    square_N = block.second.weight.detach().double().cpu().square().sum(0)
    for linear in block.inner:
        square_N += linear.weight.detach().double().cpu().square().sum(1)
        if linear.bias is not None:
            square_N += linear.bias.detach().double().cpu().square()
    return square_N.sqrt()
