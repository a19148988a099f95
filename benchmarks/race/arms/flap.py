"""A re-implementation of FLAP (An et al., *Fluctuation-based Adaptive Structured Pruning for Large Language Models*, arXiv
2312.11983): whole heads and neurons go by how much what they send to the residual stream varies, and their mean stays as a bias.
Not the authors' code.

- Channel j of what goes into W_o or the second map of a feed-forward block costs Var(x_j) ‖W_:,j‖² (their WIFV), the variance
  over all tokens of the calibration samples.
- Costs of a layer's map are standardised, (s - mean) / std; a head costs the mean over its channels; heads and neurons of all
  layers are one ranking, from which the least go until the parameters asked for are gone (their AL-AM).
- What goes leaves its mean: b += W_:,j E[x_j]. Maps of a Llama have no bias, so the model is one with biases here; those
  that nothing is put into are zero, and count as parameters all the same.

Variants: moments of the dense model for all layers, as there. `no bias` leaves the last step out: what it is worth.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    Rewriter,
    attentions,
    bias_of,
    complement,
    feed_forwards,
    input_moments,
    ranked,
    rows_of,
    weight_of,
)  # fmt: skip
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1
BIASED: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
"""What a Llama's configuration says of maps that have a bias."""


def fluctuation(weight_DC: Tensor, moment_CC: Tensor) -> Tensor:
    """Var(x_j) ‖W_:,j‖² of every channel, (C), from E[x̃ x̃ᵀ] with a 1 behind x."""
    mean_C = moment_CC[:-1, -1]
    variance_C = moment_CC.diagonal()[:-1] - mean_C.square()
    return variance_C.clamp_min(0.0) * weight_DC.square().sum(0)


def standardised(costs: Tensor) -> Tensor:
    """With mean 0 and standard deviation 1."""
    return (costs - costs.mean()) / costs.std().clamp_min(torch.finfo(costs.dtype).tiny)


def _cut(setup: Setup, seed: int, target: float, *, bias: bool) -> LoadedModel:
    moments, dense = input_moments(setup, seed), setup.dense
    blocks, pairs = attentions(dense), feed_forwards(dense)
    heads = []
    for block in blocks:
        costs_C = standardised(fluctuation(weight_of(block.projections["o"]), moments[block.names["o"]]))
        heads.append(torch.stack([costs_C[block.rows("o", head)].mean() for head in range(block.widths.heads)]))
    neurons = [standardised(fluctuation(weight_of(pair.second), moments[pair.names[1]])) for pair in pairs]
    kept = ranked(setup, heads, neurons, target)
    new = Rewriter(dense, BIASED if bias else None)
    for block, stay in zip(blocks, kept.heads, strict=True):
        new.put_heads(block, stay)
        if bias:
            for side in "qkv":
                linear = block.projections[side]
                new.put_bias(block.names[side], bias_of(linear)[rows_of(block, side, stay)])
            gone = complement(rows_of(block, "o", stay).tolist(), block.projections["o"].in_features)
            new.put_bias(block.names["o"], _left(block.projections["o"], moments[block.names["o"]], gone))
    for pair, stay in zip(pairs, kept.neurons, strict=True):
        new.put_neurons(pair, stay)
        if bias:
            for name, linear in zip((pair.names[0], *pair.names[2:]), pair.inner, strict=True):
                new.put_bias(name, bias_of(linear)[list(stay)])
            gone = complement(stay, pair.second.in_features)
            new.put_bias(pair.names[1], _left(pair.second, moments[pair.names[1]], gone))
    return new.built(kept.widths(dense.widths))


def _left(linear: torch.nn.Linear, moment: Tensor, gone: list[int]) -> Tensor:
    """The map's bias with the mean of what has gone, (D)."""
    return bias_of(linear) + weight_of(linear)[:, gone] @ moment[:-1, -1][gone]


def arms() -> tuple[Arm, ...]:
    """FLAP, and without its compensation."""
    named = {"flap": True, "flap, no bias": False}
    return tuple(
        Arm(f"flap/{name}", "flap", partial(_cut, bias=bias), VERSION, {"bias": bias}) for name, bias in named.items()
    )
