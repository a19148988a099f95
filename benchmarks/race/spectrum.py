"""How much of its rank a checkpoint's attention uses: the energy spectrum of every head, by layer.

QK: the singular values σ of C_q^½ C_k^½, C_q the second moments of a head's queries (bias included) and C_k the covariance of its
keys over tokens, their mean over the tokens of a sample removed (softmax ignores it): Σσ² is the energy of the logits. VO: the
eigenvalues of W_o C W_oᵀ, C the covariance of the head's context: Σλ is the variance of what the head writes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.race.setup import Setup
from worker.engine.models.attention import attention_blocks

SHARE = 0.99
BATCH = 32


@dataclass(frozen=True)
class LayerSpectrum:
    """Of one layer: by head, the ranks that hold SHARE of the energy."""

    layer: int
    width: int
    qk: tuple[int, ...]
    vo: tuple[int, ...]


def ranks(energies: Tensor, share: float = SHARE) -> int:
    """The fewest of the energies, largest first, that add up to `share` of their sum."""
    cumulative = energies.sort(descending=True).values.cumsum(0)
    return int((cumulative < share * cumulative[-1]).sum()) + 1


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root


@torch.inference_mode()
def spectrum(setup: Setup, seed: int = 0) -> tuple[LayerSpectrum, ...]:
    """Of the dense model, on the calibration samples of `seed`; moments in float64."""
    dense, split = setup.dense, setup.calibration(seed)
    blocks = attention_blocks(dense.model, dense.model_spec, dense.widths)
    sums: dict[tuple[int, str, int], Tensor] = {}
    means: dict[tuple[int, int], Tensor] = {}
    rows = 0

    def add(layer: int, side: str, states_BTC: Tensor) -> None:
        block = blocks[layer]
        for head in range(block.widths.heads):
            x_BTK = states_BTC[..., block.rows(side, head)].double()
            if side == "k":
                x_BTK = x_BTK - x_BTK.mean(1, keepdim=True)
            x_MK = x_BTK.flatten(0, 1)
            sums[layer, side, head] = sums.get((layer, side, head), 0) + x_MK.T @ x_MK
            if side == "o":
                means[layer, head] = means.get((layer, head), 0) + x_MK.sum(0)

    handles = []
    for number, block in enumerate(blocks):
        for side in "qk":

            def seen(_m: nn.Module, _a: object, output: Tensor, number: int = number, side: str = side) -> None:
                add(number, side, output)

            handles.append(block.projections[side].register_forward_hook(seen))

        def context(_m: nn.Module, args: tuple[Tensor, ...], number: int = number) -> None:
            nonlocal rows
            add(number, "o", args[0])
            rows += args[0][..., 0].numel() if number == 0 else 0

        handles.append(block.projections["o"].register_forward_pre_hook(context))
    try:
        for inputs, _ in setup.batches(split, BATCH):
            dense.model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for number, block in enumerate(blocks):
        qk, vo = [], []
        for head in range(block.widths.heads):
            q, k = (_root(sums[number, side, head] / rows) for side in "qk")
            qk.append(ranks(torch.linalg.svdvals(q @ k).square()))
            mean = means[number, head] / rows
            covariance = sums[number, "o", head] / rows - torch.outer(mean, mean)
            weight = block.projections["o"].weight[:, block.rows("o", head)].double()
            # The nonzero eigenvalues of W C Wᵀ are those of C^½ WᵀW C^½, which is only as wide as the head.
            root = _root(covariance)
            vo.append(ranks(torch.linalg.eigvalsh(root @ (weight.T @ weight) @ root).clamp_min(0)))
        layers.append(LayerSpectrum(number, dense.widths.head_dim, tuple(qk), tuple(vo)))
    return tuple(layers)
