"""A re-implementation of structured OBS as in ZipLM (Kurtić, Frantar, Alistarh, arXiv 2302.04089): whole heads and neurons go
one after another, each time the one that the rest of its linear map makes up for best. Not the authors' code.

With H = E[x xᵀ] + λI of what goes into the map and W (D, C), a set S of columns costs, and leaves (eq. 2 and 3)

    ρ_S = Σ_i W_i,S ((H⁻¹)_S,S)⁻¹ W_i,Sᵀ,    W ← W − W_:,S ((H⁻¹)_S,S)⁻¹ (H⁻¹)_S,:

S is a head's columns of W_o or one column of a feed-forward block's second map; H⁻¹ is brought up to date by block elimination
(eq. 4). Errors of every level are kept, and which level each map gets is chosen so that the sum of (‖ΔW x‖ / ‖W x‖)² is least
at the FLOPs that are asked for: ZipLM's dynamic programme (SPDY) on its layer-wise prior, in steps of 1/4000 of the FLOPs that
are left.

Variants built: inputs of the dense model for all maps, as in the paper's database; levels of neurons 0.9^i of the block, as
there; without the random search over layers' weights in that sum, and without retraining. `obs, by loss` takes, of a few
weights of attention against feed-forward blocks and of the relative error and its square, the one whose stitched model has the
least loss on the calibration samples: a short form of that search. SlimGPT (arXiv 2412.18110) has the same rule with a share
for each layer: see slimgpt.py.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    BATCH,
    Rewriter,
    Structures,
    attentions,
    feed_forwards,
    input_moments,
    rows_of,
    weight_of,
)  # fmt: skip
from benchmarks.race.setup import Setup, Unreachable
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1
DAMPING = 1e-2
LEVEL = 0.9
BINS = 4000
TOGETHER = 64
"""Groups that go before the matrices are made smaller."""
TRIED = tuple((power, weight) for power in (0.5, 1.0) for weight in (0.25, 1.0, 4.0))
"""Powers of the squared relative error, and attention's weight."""


class Order(NamedTuple):
    """The groups of a map in the order in which they go, and ‖ΔW x‖² / ‖W x‖² after so many of them (one more entry)."""

    gone: list[int]
    error: list[float]


def damped(moment_CC: Tensor) -> Tensor:
    """H."""
    eye = torch.eye(len(moment_CC), dtype=torch.float64)
    return moment_CC + (DAMPING * moment_CC.diagonal().mean() + torch.finfo(torch.float64).tiny) * eye


def order(weight_DC: Tensor, moment_CC: Tensor, size: int) -> Order:
    """Of groups of `size` columns that follow one another."""
    weight, inverse = weight_DC.clone(), torch.linalg.inv(damped(moment_CC))
    whole = float(torch.einsum("dc,ce,de->", weight, damped(moment_CC), weight))
    numbers = torch.arange(weight.shape[1] // size)
    there = torch.ones(len(numbers), dtype=torch.bool)
    gone: list[int] = []
    error, total = [0.0], 0.0
    while len(numbers):
        own_GDS = weight.view(len(weight), len(numbers), size).transpose(0, 1)
        blocks_GSS = inverse.view(len(numbers), size, len(numbers), size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        if size == 1:
            cost_G = own_GDS.square().sum((1, 2)) / blocks_GSS.flatten()
        else:
            cost_G = (own_GDS * torch.linalg.solve(blocks_GSS, own_GDS.mT).mT).sum((1, 2))
        least = int(torch.where(there, cost_G, torch.inf).argmin())
        total += float(cost_G[least])
        gone.append(int(numbers[least]))
        error.append(total / whole if whole > 0 else 0.0)
        at = slice(least * size, (least + 1) * size)
        solved_SC = torch.linalg.solve(inverse[at, at], inverse[at])
        weight -= weight[:, at].clone() @ solved_SC
        inverse -= inverse[:, at].clone() @ solved_SC
        # What has gone stays in the way as an identity, so that it divides by nothing, until enough of it is there.
        inverse[at, at] = torch.eye(size, dtype=torch.float64)
        there[least] = False
        if int((~there).sum()) >= min(TOGETHER, len(numbers)):
            stay = there.repeat_interleave(size)
            weight, inverse = weight[:, stay].clone(), inverse[stay][:, stay].clone()
            numbers, there = numbers[there], there[there]
    return Order(gone, error)


def refitted(weight_DC: Tensor, moment_CC: Tensor, stay: Tensor) -> Tensor:
    """What the updates come to: W H[:, S] (H_S,S)⁻¹."""
    hessian = damped(moment_CC)
    solved_SD: Tensor = torch.linalg.solve(hessian[stay][:, stay], (weight_DC @ hessian[:, stay]).mT)
    return solved_SD.mT


def programme(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float) -> list[int]:
    """A level for each map: the least sum of errors whose costs stay within `budget`. Raises Unreachable."""
    unit = budget / BINS
    best = np.zeros(BINS + 1)
    choices = []
    for own_costs, own_errors in zip(costs, errors, strict=True):
        table = np.full((len(own_costs), BINS + 1), np.inf)
        for level, (cost, error) in enumerate(zip(own_costs, own_errors, strict=True)):
            steps = int(np.ceil(cost / unit - 1e-9))
            if steps <= BINS:
                table[level, steps:] = best[: BINS + 1 - steps] + error
        choices.append((table.argmin(0), [int(np.ceil(cost / unit - 1e-9)) for cost in own_costs]))
        best = table.min(0)
    if not np.isfinite(best[BINS]):
        raise Unreachable("no level of every map is small enough")
    found, at = [], BINS
    for chosen, steps in reversed(choices):
        level = int(chosen[at])
        found.append(level)
        at -= steps[level]
    return found[::-1]


class Maps(NamedTuple):
    """Orders of all attentions and feed-forward blocks, and how many neurons each level of the latter leaves."""

    attention: list[Order]
    feed_forward: list[Order]
    neurons: list[int]


def orders(setup: Setup, seed: int) -> Maps:
    """Once for all targets."""

    def find() -> Maps:
        moments = input_moments(setup, seed)
        of_heads = [
            order(weight_of(block.projections["o"]), moments[block.names["o"]][:-1, :-1], block.widths.vo[0])
            for block in attentions(setup.dense)
        ]
        of_neurons = [
            order(weight_of(pair.second), moments[pair.names[1]][:-1, :-1], 1) for pair in feed_forwards(setup.dense)
        ]
        whole = setup.dense.widths.feed_forward[0]
        levels = sorted({max(1, round(whole * LEVEL**step)) for step in range(64)}, reverse=True)
        return Maps(of_heads, of_neurons, levels)

    return setup.once(("obs", seed), find)


def levels_for(setup: Setup, found: Maps, target: float, power: float, weight: float) -> tuple[list[int], list[int]]:
    """Heads and neurons that stay, by layer."""
    shape, dense = setup.described.shape, setup.dense.widths
    head = [sum((layer.qk[0], layer.vo[0])) * accounting.channel_flops(block)
            for layer, block in zip(dense.layers, shape.attention, strict=True)]  # fmt: skip
    costs: list[list[float]] = [[each * (layer.heads - n) for n in range(layer.heads + 1)]
                                for each, layer in zip(head, dense.layers, strict=True)]  # fmt: skip
    errors = [[weight * error**power for error in each.error] for each in found.attention]
    for block, each in zip(shape.feed_forward, found.feed_forward, strict=True):
        costs.append([count * accounting.neuron_flops(block) for count in found.neurons])
        errors.append([each.error[block.neurons - count] ** power for count in found.neurons])
    budget = (1 - target) * accounting.total_flops(shape, dense) - shape.other_flops
    chosen = programme(costs, errors, budget)
    layers = len(dense.layers)
    heads = [layer.heads - level for layer, level in zip(dense.layers, chosen[:layers], strict=True)]
    return heads, [found.neurons[level] for level in chosen[layers:]]


def stitched(setup: Setup, seed: int, found: Maps, heads: Sequence[int], neurons: Sequence[int]) -> LoadedModel:
    """The dense model with these levels of every map."""
    moments, new = input_moments(setup, seed), Rewriter(setup.dense)
    kept = Structures(
        tuple(last(each, count) for each, count in zip(found.attention, heads, strict=True)),
        tuple(last(each, count) for each, count in zip(found.feed_forward, neurons, strict=True)),
    )
    for block, stay in zip(attentions(setup.dense), kept.heads, strict=True):
        moment = moments[block.names["o"]][:-1, :-1]
        new.put_heads(block, stay, refitted(weight_of(block.projections["o"]), moment, rows_of(block, "o", stay)))
    for pair, stay in zip(feed_forwards(setup.dense), kept.neurons, strict=True):
        moment = moments[pair.names[1]][:-1, :-1]
        new.put_neurons(pair, stay, refitted(weight_of(pair.second), moment, torch.tensor(stay)))
    return new.built(kept.widths(setup.dense.widths))


def last(found: Order, count: int) -> tuple[int, ...]:
    """The `count` groups that would go last, in rising order."""
    return tuple(sorted(found.gone[len(found.gone) - count :])) if count else ()


@torch.no_grad()
def _loss(setup: Setup, seed: int, loaded: LoadedModel) -> float:
    total = 0.0
    for inputs, targets in setup.batches(setup.calibration(seed), BATCH):
        total += float(setup.loss(setup.task.outputs(loaded.model, inputs), targets).sum())
    return total


def _cut(setup: Setup, seed: int, target: float, *, by_loss: bool) -> LoadedModel:
    found = orders(setup, seed)
    if not by_loss:
        return stitched(setup, seed, found, *levels_for(setup, found, target, 1.0, 1.0))
    levels = {
        (tuple(heads), tuple(neurons)) for heads, neurons in (levels_for(setup, found, target, *each) for each in TRIED)
    }
    models = [stitched(setup, seed, found, *each) for each in sorted(levels)]
    return min(models, key=partial(_loss, setup, seed))


def arms() -> tuple[Arm, ...]:
    """The prior alone, and with a short search."""
    return tuple(
        Arm(
            f"obs/{name}",
            "obs",
            partial(_cut, by_loss=by_loss),
            VERSION,
            {"by_loss": by_loss, "tried": list(map(list, TRIED))},
        )
        for name, by_loss in {"obs": False, "obs, by loss": True}.items()
    )
