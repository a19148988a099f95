"""A re-implementation of SlimGPT (Ling, Wang, Liu, *SlimGPT: Layer-wise Structured Pruning for Large Language Models*, arXiv
2412.18110): the optimal brain surgeon on the output projections, heads one by one, neurons in batches. Not the authors' code.

- Heads: with H = E[x xᵀ] + λI of what goes into W_o, each time the head goes that costs the rest least once that is solved for
  anew (their grouped Cholesky decomposition gives the same as the exact rule in obs.py, which is used).
- Neurons: columns of the second map, each time the g least ones by w² / (H⁻¹)_jj at once, then H⁻¹ and W are brought up to date.
  g is FIRST of the block, and half of that after every batch, LEAST at least (their dynamic group size).
- Shares grow with depth along a logarithm (their incremental pruning ratio): layer i of n loses
  r_0 + (r_n-1 - r_0) log(i + 1) / log(n), scaled so that the whole is what was asked for; `equal shares` has r_0 = r_n-1.
- Layer after layer, each on the inputs that those before it, cut and solved anew, give it; within a layer both maps on one pass.

Variants built: RATIO, r_0 / r_n-1, is one for all targets; damping is obs.py's. q, k, v and the first maps lose what their output
projection does.
"""

import math
from functools import partial

import torch
from torch import Tensor

from benchmarks.race.arms import obs
from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    Rewriter,
    Structures,
    attentions,
    equal_counts,
    feed_forwards,
    moments_of,
    rows_of,
    weight_of,
)  # fmt: skip
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1
FIRST = 1 / 16
LEAST = 8
RATIO = 0.5


def shares(target: float, layers: int, ratio: float) -> list[float]:
    """What each layer loses; the mean is `target`. No layer loses more than 0.95."""
    shape = [ratio + (1 - ratio) * (math.log(i + 1) / math.log(layers) if layers > 1 else 1.0) for i in range(layers)]
    return [min(0.95, target * each * layers / sum(shape)) for each in shape]


def batched_order(weight_DC: Tensor, moment_CC: Tensor, count: int) -> list[int]:
    """The columns that stay, rising, once `count` are left: each time a batch of the least costly goes."""
    weight, inverse = weight_DC.clone(), torch.linalg.inv(obs.damped(moment_CC))
    numbers = torch.arange(weight.shape[1])
    group = max(LEAST, round(FIRST * len(numbers)))
    while len(numbers) > count:
        cost_C = weight.square().sum(0) / inverse.diagonal()
        order = cost_C.argsort(stable=True)
        going = order[: min(group, len(numbers) - count)]
        stay = order[len(going) :].sort().values
        solved_GC = torch.linalg.solve(inverse[going][:, going], inverse[going])
        weight = (weight - weight[:, going] @ solved_GC)[:, stay]
        inverse = (inverse - inverse[:, going] @ solved_GC)[stay][:, stay]
        numbers = numbers[stay]
        group = max(LEAST, group // 2)
    return [int(number) for number in numbers]


def _cut(setup: Setup, seed: int, target: float, *, ratio: float) -> LoadedModel:
    dense = setup.dense
    widths = dense.widths
    heads = [tuple(range(layer.heads)) for layer in widths.layers]
    neurons = [tuple(range(block)) for block in widths.feed_forward]
    every = zip(attentions(dense), feed_forwards(dense), shares(target, len(heads), ratio), strict=True)
    new, found = Rewriter(dense), dense
    for number, (block, pair, share) in enumerate(every):
        counts = equal_counts(setup, share, number)
        names = block.names["o"], pair.names[1]
        # What has not been cut yet has its own weights still.
        moments = moments_of(setup, found, seed, names)
        of_heads, of_neurons = (moments[name][:-1, :-1] for name in names)
        output, second = weight_of(block.projections["o"]), weight_of(pair.second)
        size = output.shape[1] // block.widths.heads
        heads[number] = obs.last(obs.order(output, of_heads, size), counts.heads)
        neurons[number] = tuple(batched_order(second, of_neurons, counts.neurons))
        stay = rows_of(block, "o", heads[number])
        new.put_heads(block, heads[number], obs.refitted(output, of_heads, stay))
        new.put_neurons(pair, neurons[number], obs.refitted(second, of_neurons, torch.tensor(neurons[number])))
        found = new.built(Structures(tuple(heads), tuple(neurons)).widths(widths))
    return found


def arms() -> tuple[Arm, ...]:
    """Shares that grow with depth, and equal ones."""
    named = {"slimgpt": RATIO, "slimgpt, equal shares": 1.0}
    return tuple(
        Arm(f"slimgpt/{name}", "slimgpt", partial(_cut, ratio=ratio), VERSION, {"ratio": ratio})
        for name, ratio in named.items()
    )
