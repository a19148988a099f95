"""A re-implementation of LLM-Pruner's first-order criterion (Ma, Fang, Wang, arXiv 2305.11627): whole heads and neurons go by how
much the loss would change without their weights. Not the authors' code.

With g the gradient of the mean loss over the calibration samples, by the data's own next tokens, a weight costs |w g|
(`param_first` in their code), and a group, which is a head's rows of q, k, v and columns of o, or a neuron's rows of the first
maps and column of the second, the sum over its weights.

Variants built: `equal shares` takes the same share of heads and of neurons from every layer, as their block-wise pruning
does, but for their first and last layers, which are left alone there: a model of few layers could not reach the targets.
`global` ranks all groups of the model by cost a parameter. Nothing is made up for before recovery, as there.
"""

from functools import partial

import torch
from torch import Tensor

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    BATCH,
    Rewriter,
    Structures,
    attentions,
    equal_counts,
    feed_forwards,
    largest,
    ranked,
)  # fmt: skip
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock
from worker.engine.models.feed_forward import FeedForwardBlock

VERSION = 1

Costs = tuple[list[Tensor], list[Tensor]]
"""By layer, of every head and of every neuron."""


def head_costs(block: AttentionBlock) -> Tensor:
    """Of the gradients that the projections have, (H)."""
    by_side = {side: _salience(linear) for side, linear in block.projections.items()}
    rows = {side: each.sum(0 if side == "o" else 1) for side, each in by_side.items()}
    return torch.stack([
        sum((rows[side][block.rows(side, head)].sum() for side in rows), torch.zeros(()).double())
        for head in range(block.widths.heads)
    ])  # fmt: skip


def neuron_costs(block: FeedForwardBlock) -> Tensor:
    """Of the gradients that the maps have, (N)."""
    return torch.stack([_salience(each).sum(1) for each in block.inner]).sum(0) + _salience(block.second).sum(0)


def _salience(linear: torch.nn.Linear) -> Tensor:
    gradient = linear.weight.grad
    assert gradient is not None
    return (linear.weight.detach().double() * gradient.double()).abs()


def costs(setup: Setup, seed: int) -> Costs:
    """Once for all targets."""

    def gather() -> Costs:
        model, split = setup.dense.model, setup.calibration(seed)
        model.zero_grad(set_to_none=True)
        try:
            for inputs, targets in setup.batches(split, BATCH):
                (setup.loss(setup.task.outputs(model, inputs), targets).sum() / len(split)).backward()
            return [head_costs(each) for each in attentions(setup.dense)], [
                neuron_costs(each) for each in feed_forwards(setup.dense)
            ]
        finally:
            model.zero_grad(set_to_none=True)

    return setup.once(("taylor", seed), gather)


def _cut(setup: Setup, seed: int, target: float, *, everywhere: bool) -> LoadedModel:
    heads, neurons = costs(setup, seed)
    if everywhere:
        kept = ranked(setup, heads, neurons, target, by_parameter=True)
    else:
        counts = [equal_counts(setup, target, layer) for layer in range(len(heads))]
        kept = Structures(
            tuple(largest(each, count.heads) for each, count in zip(heads, counts, strict=True)),
            tuple(largest(each, count.neurons) for each, count in zip(neurons, counts, strict=True)),
        )
    new = Rewriter(setup.dense)
    for block, stay in zip(attentions(setup.dense), kept.heads, strict=True):
        new.put_heads(block, stay)
    for pair, stay in zip(feed_forwards(setup.dense), kept.neurons, strict=True):
        new.put_neurons(pair, stay)
    return new.built(kept.widths(setup.dense.widths))


def arms() -> tuple[Arm, ...]:
    """Equal shares, and all groups of the model in one ranking."""
    named = {"equal shares": False, "global": True}
    return tuple(
        Arm(f"llm-pruner/taylor, {name}", "llm-pruner", partial(_cut, everywhere=one), VERSION, {"everywhere": one})
        for name, one in named.items()
    )
