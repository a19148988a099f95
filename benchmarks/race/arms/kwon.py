"""A re-implementation of Kwon et al., *A Fast Post-Training Pruning Framework for Transformers* (arXiv 2204.09656), heads only.

Not the authors' code, and attention alone, where theirs prunes feed-forward filters too. A mask variable m scales the output of
each head; all are 1 in the dense model, and the loss is expanded around there, the Hessian replaced by the Fisher information of
the masks:

    L(m) ≈ L(1) + ½ (1 − m)ᵀ I (1 − m),   I = 1/|D| Σ (∂L(x, y; 1)/∂m)(∂L(x, y; 1)/∂m)ᵀ

1. Fisher-based mask search: with the diagonal of I, the heads of least I_ii go, over all layers. Every head costs the same, so
   their knapsack is a ranking.
2. Fisher-based mask rearrangement: the number of heads in each layer stays; with the layer's block of I, which heads go is chosen
   again, to minimise (1 − m)ᵀ I (1 − m). Theirs is a greedy exchange; a layer has few heads here, so all sets are tried (up to
   5000, else the exchange).
3. Mask tuning: layer by layer, first layer first, the masks that are left become real numbers that minimise
   ‖(x + MHA(x; m)) − (x' + MHA(x'; 1))‖², x the layer's input in the pruned model and x' in the dense one: linear least squares,
   solved for r = m − 1 with damping 1. Tuning ends where a mask leaves [−10, 10].

The masks are then folded into the columns of W_o and the heads are cut. No retraining.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.race.arms.arm import Arm
from benchmarks.race.setup import Setup
from checkpoints.sizes.accounting import attention_parameters, qk_channel_parameters, vo_channel_parameters
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.pruning.selection import KeptHead, KeptHeads, widths_of
from worker.engine.pruning.surgery import cut

VERSION = 1
BATCH = 32
MOST_SETS = 5000
DAMPING = 1.0
LARGEST_MASK = 10.0


def _blocks(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def mask_gradients(setup: Setup, seed: int) -> Tensor:
    """∂L/∂m of every sample by itself, at m = 1: (N, layers, heads).

    A mask on head h scales columns h of W_o, so its gradient is Σ over tokens of <dY, W_o[:, h] ctx_h>, dY the gradient at the
    layer's output.
    """
    dense = setup.dense
    blocks = _blocks(dense)
    rows: list[list[Tensor]] = [[] for _ in blocks]
    contexts: dict[int, Tensor] = {}
    handles = []

    def keep_context(number: int, module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
        contexts[number] = args[0].detach()

        def gradient(dy_BTD: Tensor) -> None:
            per_channel_BC = ((dy_BTD @ module.weight.detach()) * contexts[number]).sum(1)
            heads = blocks[number].widths.heads
            by_head = [per_channel_BC[:, blocks[number].rows("o", h)].sum(1) for h in range(heads)]
            rows[number].append(torch.stack(by_head, dim=1).double().cpu())

        output.register_hook(gradient)

    for number, block in enumerate(blocks):
        handles.append(
            block.projections["o"].register_forward_hook(
                lambda module, args, output, number=number: keep_context(number, module, args, output)
            )
        )
    try:
        for inputs, targets in setup.batches(setup.calibration(seed), BATCH):
            setup.loss(dense.model(**inputs).logits, targets).sum().backward()
            dense.model.zero_grad(set_to_none=True)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([torch.cat(parts) for parts in rows], dim=1)


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
    chosen = sorted(going)
    for head in (h for h in range(heads) if h not in going):
        # One more joins; the one whose staying costs most stays in the model after all.
        joined = [*chosen, head]
        chosen = min(([h for h in joined if h != left] for left in joined), key=cost)
    return set(chosen)


@torch.no_grad()
def _tune(setup: Setup, seed: int, keep: KeptHeads, smaller: LoadedModel) -> None:
    """Scale the columns of W_o of the heads that are left, in place, first layer first."""
    split, dense = setup.calibration(seed), setup.dense
    for number, (block, layer) in enumerate(zip(_blocks(smaller), keep, strict=True)):
        if not layer:
            continue
        output = block.projections["o"]
        heads = len(layer)
        gram_HH = torch.zeros(heads, heads, dtype=torch.float64)
        target_H = torch.zeros(heads, dtype=torch.float64)
        for inputs, _ in setup.batches(split, BATCH):
            residual_BTD, context_BTC = _inside(smaller.model, block, inputs)
            dense_residual_BTD, dense_context_BTC = _inside(dense.model, _blocks(dense)[number], inputs)
            dense_output = _blocks(dense)[number].projections["o"]
            wanted_BTD = dense_residual_BTD + dense_output(dense_context_BTC) - residual_BTD - output.bias
            parts_HM = torch.stack(
                [
                    (context_BTC[..., rows] @ output.weight[:, rows].T).flatten()
                    for rows in (block.rows("o", h) for h in range(heads))
                ]
            ).double()
            # r = m − 1, so what m = 1 explains already is taken off.
            rest_M = wanted_BTD.flatten().double() - parts_HM.sum(0)
            gram_HH += (parts_HM @ parts_HM.T).cpu()
            target_H += (parts_HM @ rest_M).cpu()
        mask_H = 1 + torch.linalg.solve(gram_HH + DAMPING**2 * torch.eye(heads, dtype=torch.float64), target_H)
        if float(mask_H.abs().max()) > LARGEST_MASK:
            return
        for h in range(heads):
            output.weight[:, block.rows("o", h)] *= float(mask_H[h])


def _inside(model: PreTrainedModel, block: AttentionBlock, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Of one layer: the residual stream that attention's output is added to, and the context (what W_o multiplies)."""
    seen: dict[str, Tensor] = {}
    encoder_layer = model.get_submodule(block.name.rpartition(".")[0])

    class Enough(Exception):
        """The rest of the forward pass is not needed."""

    def before(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["residual"] = args[0]

    def at_output(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["context"] = args[0]
        raise Enough

    handles = [
        encoder_layer.register_forward_pre_hook(before),
        block.projections["o"].register_forward_pre_hook(at_output),
    ]
    try:
        model(**inputs)
    except Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen["residual"], seen["context"]


def _count(setup: Setup, target: float) -> int:
    """The number of heads nearest to the target; where that is more than a point off, the fewer, in the method's favour."""
    shape, layer = setup.described.shape, setup.dense.widths.layers[0]
    block, whole = shape.attention[0], attention_parameters(shape, shape.dense)
    of_head = layer.qk[0] * qk_channel_parameters(block) + layer.vo[0] * vo_channel_parameters(block)
    exact = target * whole / of_head
    nearest = round(exact)
    off = abs(nearest - exact) * of_head / whole
    return nearest if off <= 0.01 else math.floor(exact)


def _cut(setup: Setup, seed: int, target: float) -> LoadedModel:
    dense = setup.dense
    gradients_NLH = setup.once(("kwon", seed), lambda: mask_gradients(setup, seed))
    going = search(gradients_NLH, _count(setup, target))
    going = [rearrange(gradients_NLH[:, number], layer) for number, layer in enumerate(going)]
    keep: KeptHeads = tuple(
        tuple(
            KeptHead(h, tuple(range(layer.qk[h])), tuple(range(layer.vo[h])))
            for h in range(layer.heads)
            if h not in going[number]
        )
        for number, layer in enumerate(dense.widths.layers)
    )
    smaller = replace(
        dense,
        model=cut(dense.model, dense.model_spec, dense.widths, keep),
        widths=widths_of(keep, dense.widths),
    )
    _tune(setup, seed, keep, smaller)
    return smaller


def arms() -> tuple[Arm, ...]:
    """One arm: search, rearrangement and tuning together, as published."""
    return (Arm(name="kwon/heads", family="kwon", cut=_cut, version=VERSION, settings={"damping": DAMPING}),)
