"""What one pass over the calibration samples can collect, and what it collected.

All numbers are float64 on the CPU. Means over samples are of per-sample losses' gradients; means over tokens run over all tokens
of all samples. Shapes: C channels of one side of a layer, all heads one after another; K channels of one head; D model width.
"""

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Statistic(StrEnum):
    """One thing to gather."""

    FISHER = "fisher"
    SALIENCY = "saliency"
    GATES = "gates"
    QK_MOMENTS = "qk_moments"
    CONTEXT = "context"
    GRADIENTS = "gradients"
    OUTPUT_GRADIENT = "output_gradient"


NEEDS_GRADIENTS = frozenset(
    {Statistic.FISHER, Statistic.SALIENCY, Statistic.GATES, Statistic.GRADIENTS, Statistic.OUTPUT_GRADIENT}
)
"""What takes a backward pass; the rest takes a forward pass alone."""


@dataclass(frozen=True)
class Channels:
    """One number a channel: `qk` and `vo` (C), their C's own."""

    qk: Tensor
    vo: Tensor


@dataclass(frozen=True)
class Gates:
    """A gate multiplies a channel and stands at 1; its gradient for one sample is Σ θ·∂ℓ/∂θ over one side of the coupling.

    The sum over q's row (bias included) equals that over k's, v's row equals o's column: one side says all. Where several queries
    share a head, a channel has a row of q, and a column of o, in each, and the sum runs over all of them.
    `mean` holds E[gate gradient]; `qk` and `vo` (C, C) the second moments over samples, across all heads of the layer.
    """

    mean: Channels
    qk: Tensor
    vo: Tensor


@dataclass(frozen=True)
class QKMoments:
    """By head: `q` E[q qᵀ] (K, K), bias included, of every query of every head in turn; `k` the same of k without its sample's
    mean over tokens; `k_mean` (K).

    Softmax ignores what is added to all keys of a sample, so the part of k that counts has no mean. Where positions rotate q and
    k, both are as they are before that, `k` with its mean, and `k_mean` is zero: rotated, what keys shared differs by token.
    """

    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    k_mean: tuple[Tensor, ...]


@dataclass(frozen=True)
class Context:
    """The input of the output projection over all tokens: `mean` (C) and `second` E[x xᵀ] (C, C), not centred. C are its columns:
    channels of every query of every head."""

    mean: Tensor
    second: Tensor

    @property
    def covariance(self) -> Tensor:
        """(C, C)."""
        return self.second - self.mean.outer(self.mean)


@dataclass(frozen=True)
class GradientMoments:
    """By head, E over tokens of g gᵀ (K, K), g the gradient of a sample's loss at q, at k, at the context; all but k's of every
    query of every head in turn."""

    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    context: tuple[Tensor, ...]


@dataclass(frozen=True)
class LayerObservations:
    """One layer; None is what was not asked for.

    `fisher`: E over samples of g², summed over the channel's parameters on both sides of its coupling, biases included
    (b_o belongs to no channel). `saliency`: the same of θ²g². `output_gradient`: E over tokens of g gᵀ (D, D), g the
    gradient at the attention's output.
    """

    fisher: Channels | None
    saliency: Channels | None
    gates: Gates | None
    qk: QKMoments | None
    context: Context | None
    gradients: GradientMoments | None
    output_gradient: Tensor | None
    tokens: int
    """Queries that passed, of all samples."""


@dataclass(frozen=True)
class NeuronObservations:
    """One feed-forward block, (N) each; zero is what was not asked for.

    `fisher` and `saliency` as in LayerObservations, over both sides of a neuron. `gate` and `gate_square`: mean over samples of
    a gate's gradient Σ_t a·∂ℓ/∂a and of its square, a the activation. `mean`, `variance` of a and `gradient_square` E[(∂ℓ/∂a)²]
    over tokens.
    """

    fisher: Tensor
    saliency: Tensor
    gate: Tensor
    gate_square: Tensor
    mean: Tensor
    variance: Tensor
    gradient_square: Tensor
    tokens: int
    """Activations that passed, of all samples."""


@dataclass(frozen=True)
class Observations:
    """All layers, and how much was seen."""

    layers: tuple[LayerObservations, ...]
    samples: int
    tokens: int
    """Of the layer or block that saw most."""
    neurons: tuple[NeuronObservations, ...] = ()
    """Of every feed-forward block, where these were observed."""
