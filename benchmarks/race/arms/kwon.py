"""A re-implementation of Kwon et al., *A Fast Post-Training Pruning Framework for Transformers* (arXiv 2204.09656).

Not the authors' code. Heads alone where attention is raced, heads and feed-forward filters (neurons) in a race of whole models. A
mask variable m scales the output of each head and the activation of each filter; all are 1 in the dense model, and the loss is
expanded around there, the Hessian replaced by the Fisher information of the masks:

    L(m) ≈ L(1) + ½ (1 − m)ᵀ I (1 − m),   I = 1/|D| Σ (∂L(x, y; 1)/∂m)(∂L(x, y; 1)/∂m)ᵀ

1. Fisher-based mask search: with the diagonal of I, the heads of least I_ii go, over all layers. Every head costs the same, so
   their knapsack is a ranking. With filters (algorithm 1): for every number of heads the filters that the FLOPs left allow, and
   of all these the pair that loses least.
2. Fisher-based mask rearrangement: the number of heads in each layer stays; with the layer's block of I, which heads go is chosen
   again, to minimise (1 − m)ᵀ I (1 − m). Theirs is a greedy exchange; a layer has few heads here, so all sets are tried (up to
   5000, else the exchange). Of filters always the exchange.
3. Mask tuning: layer by layer, first layer first, the masks that are left become real numbers that minimise
   ‖(x + MHA(x; m)) − (x' + MHA(x'; 1))‖², x the layer's input in the pruned model and x' in the dense one: linear least squares,
   solved for r = m − 1 with damping 1. Filters in their turn within the layer. Tuning ends where a mask leaves [−10, 10].

The masks are then folded into the columns of W_o, and of the second feed-forward map, and what goes is cut. No retraining.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.race.arms.arm import Arm
from benchmarks.race.setup import Setup, Unreachable
from checkpoints.sizes.accounting import (
    attention_parameters,
    channel_flops,
    neuron_flops,
    qk_channel_parameters,
    total_flops,
    vo_channel_parameters,
)  # fmt: skip
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.attention import AttentionBlock, attention_blocks, linear_at
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning.layer_calls import StopForward, hidden_states, hooked
from worker.engine.pruning.selection import KeptHead, KeptHeads, Selection, widths_of
from worker.engine.pruning.surgery import cut

VERSION = 1
BATCH = 32
MOST_SETS = 5000
DAMPING = 1.0
LARGEST_MASK = 10.0


def _blocks(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def channel_gradients(setup: Setup, seed: int, linears: Sequence[nn.Linear]) -> list[Tensor]:
    """Of a mask on every channel that goes into these maps of the dense model, ∂L/∂m at 1 of every sample: (N, C) a map.

    A mask on a channel scales a column of the map, so its gradient is Σ over tokens of <dY, W[:, c] x_c>, dY the gradient at the
    map's output.
    """
    dense, loss = setup.dense, setup.scoring_loss(seed)
    rows: list[list[Tensor]] = [[] for _ in linears]
    going_in: dict[int, Tensor] = {}
    handles = []

    def keep_input(number: int, module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
        going_in[number] = args[0].detach()

        def gradient(dy_BTD: Tensor) -> None:
            per_channel_BC = ((dy_BTD @ module.weight.detach()) * going_in[number]).sum(1)
            rows[number].append(per_channel_BC.cpu())

        output.register_hook(gradient)

    for number, linear in enumerate(linears):
        handles.append(
            linear.register_forward_hook(
                lambda module, args, output, number=number: keep_input(number, module, args, output)
            )
        )
    try:
        for inputs, targets in setup.batches(setup.calibration(seed), BATCH):
            loss(setup.task.outputs(dense.model, inputs), targets).sum().backward()
            dense.model.zero_grad(set_to_none=True)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(parts) for parts in rows]


def by_head(gradients_NC: Tensor, block: AttentionBlock) -> Tensor:
    """(N, heads): of a mask on all channels of a head."""
    heads = range(block.widths.heads)
    return torch.stack([gradients_NC[:, block.rows("o", h)].sum(1) for h in heads], dim=1).double()


def mask_gradients(setup: Setup, seed: int) -> Tensor:
    """∂L/∂m of every sample by itself, at m = 1, of a mask on the output of each head: (N, layers, heads)."""
    blocks = _blocks(setup.dense)
    found = channel_gradients(setup, seed, [block.projections["o"] for block in blocks])
    return torch.stack([by_head(each, block) for each, block in zip(found, blocks, strict=True)], dim=1)


def search_both(
    heads_LH: Tensor, filters_LF: Tensor, of_head: float, of_filter: float, budget: float
) -> tuple[int, int]:
    """How many heads and filters go: algorithm 1 of the paper, from the diagonal of I and what each costs.

    Raises Unreachable where not even the least head and filter fit.
    """
    of_heads, of_filters = (values.flatten().sort().values for values in (heads_LH, filters_LF))
    lost_heads = torch.cat([of_heads.new_zeros(1), of_heads.cumsum(0)])
    lost_filters = torch.cat([of_filters.new_zeros(1), of_filters.cumsum(0)])
    best: tuple[float, int, int] | None = None
    for heads_gone in range(len(of_heads) + 1):
        left = budget - (len(of_heads) - heads_gone) * of_head
        if left < len(filters_LF) * of_filter:
            continue
        filters_gone = max(0, len(of_filters) - int(left // of_filter))
        lost = float(lost_heads[heads_gone] + lost_filters[filters_gone])
        if best is None or lost < best[0]:
            best = (lost, heads_gone, filters_gone)
    if best is None:
        raise Unreachable("no heads and filters are few enough")
    return best[1], best[2]


def search(gradients_NLH: Tensor, count: int) -> list[set[int]]:
    """By layer, the heads that go: the `count` of least I_ii over all layers."""
    importance_LH = gradients_NLH.square().mean(0)
    heads = importance_LH.shape[1]
    going: list[set[int]] = [set() for _ in importance_LH]
    for index in importance_LH.flatten().argsort(stable=True)[:count].tolist():
        going[index // heads].add(index % heads)
    return going


def rearrange(gradients_NH: Tensor, going: set[int]) -> set[int]:
    """As many heads of one layer, chosen to minimise (1 − m)ᵀ I (1 − m) with the layer's block of I."""
    heads, size = gradients_NH.shape[1], len(going)
    fisher_HH = gradients_NH.T @ gradients_NH / len(gradients_NH)

    def cost(chosen: Iterable[int]) -> float:
        rows = torch.tensor(list(chosen), dtype=torch.long)
        return float(fisher_HH[rows][:, rows].sum())

    if math.comb(heads, size) <= MOST_SETS:
        return set(min(itertools.combinations(range(heads), size), key=cost))
    return exchange(fisher_HH, going)


def exchange(fisher_CC: Tensor, going: set[int]) -> set[int]:
    """The paper's greedy exchange: one more joins, and the one whose staying costs most stays in the model after all."""
    mask_C = torch.zeros(len(fisher_CC), dtype=torch.float64)
    mask_C[sorted(going)] = 1.0
    with_all_C = fisher_CC @ mask_C
    importance_C = fisher_CC.diagonal()
    for channel in sorted(set(range(len(fisher_CC))) - going, key=lambda c: float(importance_C[c])):
        mask_C[channel] = 1.0
        with_all_C += fisher_CC[channel]
        # Without c the cost is mᵀIm − 2 (Im)_c + I_cc.
        saved_C = torch.where(mask_C > 0, 2 * with_all_C - importance_C, -torch.inf)
        back = int(saved_C.argmax())
        mask_C[back] = 0.0
        with_all_C -= fisher_CC[back]
    return set(mask_C.nonzero().flatten().tolist())


@dataclass(frozen=True)
class _Masked:
    """A map that writes to the residual stream, and which of its columns share a mask."""

    path: str
    stream: str
    groups: list[range]


def _masked(smaller: LoadedModel, *, filters: bool) -> list[_Masked]:
    """Of every layer W_o and, where filters are masked, the second feed-forward map, in the order in which they run."""
    layout = smaller.model_spec.layout_of(smaller.model)
    found = []
    for block, site in zip(_blocks(smaller), layout.attention, strict=True):
        rows = [block.rows("o", h) for h in range(block.widths.heads)]
        found.append(_Masked(site.o, str(site.stream), [range(each.start, each.stop) for each in rows]))
    if not filters:
        return found
    pairs = feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths)
    second = [
        _Masked(site.second, str(site.stream), [range(n, n + 1) for n in range(pair.second.in_features)])
        for pair, site in zip(pairs, layout.feed_forward, strict=True)
    ]
    return [each for both in zip(found, second, strict=True) for each in both]


@torch.no_grad()
def _tune(setup: Setup, seed: int, smaller: LoadedModel) -> None:
    """Scale the columns of what is left, in place, first layer first."""
    split, dense = setup.calibration(seed), setup.dense.model
    for masked in _masked(smaller, filters=setup.whole):
        groups = len(masked.groups)
        if not groups:
            continue
        output = linear_at(smaller.model, masked.path)
        columns = output.in_features
        gram_CC = torch.zeros(columns, columns, dtype=torch.float64)
        target_C = torch.zeros(columns, dtype=torch.float64)
        weight_DC = output.weight.double()
        for inputs, _ in setup.batches(split, BATCH):
            residual_BTD, x_BTC = _inside(smaller.model, masked, inputs)
            dense_residual_BTD, dense_x_BTC = _inside(dense, masked, inputs)
            wanted_BTD = dense_residual_BTD + linear_at(dense, masked.path)(dense_x_BTC)
            # r = m − 1, so what m = 1 explains already is taken off.
            rest_RD = (wanted_BTD - residual_BTD - output(x_BTC)).flatten(0, 1).double()
            x_RC = x_BTC.flatten(0, 1).double()
            gram_CC += x_RC.mT @ x_RC
            target_C += ((rest_RD @ weight_DC) * x_RC).sum(0)
        # <W_i x_i, W_j x_j> summed over rows is (WᵀW)_ij (Σ x xᵀ)_ij; of groups of columns, the sum over both.
        gram_CC *= weight_DC.mT @ weight_DC
        member_GC = torch.zeros(groups, columns, dtype=torch.float64)
        for number, rows in enumerate(masked.groups):
            member_GC[number, list(rows)] = 1.0
        gram_GG, target_G = member_GC @ gram_CC @ member_GC.mT, member_GC @ target_C
        mask_G = 1 + torch.linalg.solve(gram_GG + DAMPING**2 * torch.eye(groups, dtype=torch.float64), target_G)
        if float(mask_G.abs().max()) > LARGEST_MASK:
            return
        output.weight.mul_((mask_G @ member_GC).to(output.weight.dtype))


def _inside(model: PreTrainedModel, masked: _Masked, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The residual stream that the map's output is added to, and what goes into the map."""
    seen: dict[str, Tensor] = {}

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["residual"] = hidden_states(args, kwargs)

    def at_output(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["input"] = args[0]
        raise StopForward

    stream, output = model.get_submodule(masked.stream), model.get_submodule(masked.path)
    handles = stream.register_forward_pre_hook(before, with_kwargs=True), output.register_forward_pre_hook(at_output)
    with hooked(*handles), suppress(StopForward):
        model(**inputs)
    return seen["residual"], seen["input"]


def _count(setup: Setup, target: float) -> int:
    """The number of heads nearest to the target; where that is more than a point off, the fewer, in the method's favour."""
    shape, layer = setup.described.shape, setup.dense.widths.layers[0]
    block, whole = shape.attention[0], attention_parameters(shape, shape.dense)
    of_head = layer.qk[0] * qk_channel_parameters(block) + layer.vo[0] * vo_channel_parameters(block)
    exact = target * whole / of_head
    nearest = round(exact)
    off = abs(nearest - exact) * of_head / whole
    return nearest if off <= 0.01 else math.floor(exact)


def _heads_that_stay(dense: LoadedModel, going: Sequence[set[int]]) -> KeptHeads:
    return tuple(
        tuple(
            KeptHead(h, tuple(range(layer.qk[h])), tuple(range(layer.vo[h])))
            for h in range(layer.heads)
            if h not in going[number]
        )
        for number, layer in enumerate(dense.widths.layers)
    )


def _cut(setup: Setup, seed: int, target: float) -> LoadedModel:
    dense = setup.dense
    gradients_NLH = setup.once(("kwon", seed), lambda: mask_gradients(setup, seed))
    going = search(gradients_NLH, _count(setup, target))
    going = [rearrange(gradients_NLH[:, number], layer) for number, layer in enumerate(going)]
    keep = _heads_that_stay(dense, going)
    smaller = replace(
        dense,
        model=cut(dense.model, dense.model_spec, dense.widths, keep),
        widths=widths_of(keep, dense.widths),
    )
    _tune(setup, seed, smaller)
    return smaller


def _cut_both(setup: Setup, seed: int, target: float) -> LoadedModel:
    dense, shape = setup.dense, setup.described.shape
    blocks, pairs = _blocks(dense), feed_forward_blocks(dense.model, dense.model_spec, dense.widths)

    def gradients() -> tuple[Tensor, Tensor]:
        linears = [*(block.projections["o"] for block in blocks), *(pair.second for pair in pairs)]
        found = channel_gradients(setup, seed, linears)
        of_heads = [by_head(each, block) for each, block in zip(found, blocks, strict=False)]
        return torch.stack(of_heads, 1), torch.stack([each.double() for each in found[len(blocks) :]], 1)

    heads_NLH, filters_NLF = setup.once(("kwon", "both", seed), gradients)
    of_head = 2 * dense.widths.head_dim * channel_flops(shape.attention[0])
    budget = (1 - target) * total_flops(shape, shape.dense) - shape.other_flops
    fisher_heads, fisher_filters = heads_NLH.square().mean(0), filters_NLF.square().mean(0)
    counts = search_both(fisher_heads, fisher_filters, of_head, neuron_flops(shape.feed_forward[0]), budget)
    going = [rearrange(heads_NLH[:, n], layer) for n, layer in enumerate(search(heads_NLH, counts[0]))]
    neurons: list[tuple[int, ...]] = []
    for number, filters in enumerate(search(filters_NLF, counts[1])):
        own_NF = filters_NLF[:, number]
        gone = exchange(own_NF.mT @ own_NF / len(own_NF), filters)
        # A block keeps a neuron: the engine's class knows no block without.
        neurons.append(
            tuple(n for n in range(own_NF.shape[1]) if n not in gone) or (int(own_NF.square().sum(0).argmax()),)
        )
    kept = Selection(_heads_that_stay(dense, going), tuple(neurons))
    model = cut(dense.model, dense.model_spec, dense.widths, kept.heads, kept.neurons)
    smaller = replace(dense, model=model, widths=kept.widths(dense.widths))
    _tune(setup, seed, smaller)
    return smaller


def arms(*, whole: bool = False) -> tuple[Arm, ...]:
    """One arm: search, rearrangement and tuning together, as published."""
    name, way = ("kwon/heads and filters", _cut_both) if whole else ("kwon/heads", _cut)
    return (Arm(name=name, family="kwon", cut=way, version=VERSION, settings={"damping": DAMPING}),)
