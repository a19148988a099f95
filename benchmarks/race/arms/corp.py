"""A re-implementation of CORP (Zhang and Yang, *CORP: Closed-Form One-shot Representation-Preserving Structured Pruning*, arXiv
2602.05243): what goes is written as a function of what stays, in closed form, and folded into the weights. Not the authors'
code.

- MLP: removed activations are affine in those that stay, a_P ≈ B a_S + c, by ridge regression: B = Cov(a_P, a_S)(Cov(a_S) +
  λI)⁻¹, c = E a_P − B E a_S. Then W₂,S += W₂,P B and b₂ += W₂,P c. Neurons that stay: largest E[a²]·‖W₂[:, n]‖².
- Attention logits: of each head, Q_P K_Pᵀ ≈ Q_S M K_Sᵀ over all samples, by ridge regression over vec M, whose normal matrix is
  Σ_b (Q_SᵀQ_S)_b ⊗ (K_SᵀK_S)_b. With the SVD I + M = U S Vᵀ, q takes (U S^½)ᵀ in and k (V S^½)ᵀ. Channels that stay: largest
  E[q²]·E[k²]. Keys come without their sample's mean over tokens, which softmax does not notice.

Variants built: the paper's rankings were not at hand, so the two above are ours, by energy; of attention it is QK that its
logits speak of, and VO channels are cut here by its MLP rule on the context and W_o, a head by itself, since the targets are
out of reach without. All heads and layers alike, the same share of attention and MLP, one pass over the dense model, λ 1e-3 of
the mean square.
"""

import torch
from torch import Tensor

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    BATCH,
    Rewriter,
    attentions,
    bias_of,
    complement,
    equal,
    feed_forwards,
    input_moments,
    weight_of,
    widths_of,
)  # fmt: skip
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1
RIDGE = 1e-3

Grams = tuple[Tensor, Tensor]
"""Of one attention, by sample and head: QᵀQ and KᵀK (N, H, K, K)."""


def affine(moment: Tensor, stay: list[int]) -> tuple[Tensor, Tensor]:
    """B (P, S) and c (P) of x_P ≈ B x_S + c, from E[x̃ x̃ᵀ] with a 1 behind x; the rest of x are P, in rising order."""
    mean, second = moment[:-1, -1], moment[:-1, :-1]
    covariance = second - mean.outer(mean)
    gone = complement(stay, len(mean))
    among = covariance[stay][:, stay]
    penalty = RIDGE * second.diagonal()[stay].mean() + torch.finfo(torch.float64).tiny
    eye = torch.eye(len(stay), dtype=torch.float64)
    by = torch.linalg.solve(among + penalty * eye, covariance[stay][:, gone]).mT
    return by, mean[gone] - by @ mean[stay]


def folded(weight: Tensor, bias: Tensor, moment: Tensor, stay: list[int]) -> tuple[Tensor, Tensor]:
    """A map of what stays, (out, S), and its bias."""
    by, constant = affine(moment, stay)
    lost = weight[:, complement(stay, weight.shape[1])]
    return weight[:, stay] + lost @ by, bias + lost @ constant


def logits_map(query_NKK: Tensor, key_NKK: Tensor, stay: list[int]) -> Tensor:
    """I + M (S, S): the bilinear map of what stays that is nearest to the whole head's scores."""
    gone = complement(stay, query_NKK.shape[1])
    size = len(stay)
    rows = torch.tensor(stay)
    query_NSS, key_NSS = (gram[:, rows][:, :, rows].flatten(1) for gram in (query_NKK, key_NKK))
    # [(i, i'), (j, j')] → [(i, j), (i', j')]
    normal = (query_NSS.mT @ key_NSS).view(size, size, size, size).permute(0, 2, 1, 3).reshape(size**2, size**2)
    lost_q, lost_k = query_NKK[:, rows][:, :, gone], key_NKK[:, rows][:, :, gone]
    wanted = torch.einsum("nip,njp->ij", lost_q, lost_k).flatten()
    penalty = RIDGE * normal.diagonal().mean() + torch.finfo(torch.float64).tiny
    found = torch.linalg.solve(normal + penalty * torch.eye(size**2, dtype=torch.float64), wanted)
    kept_SS: Tensor = torch.eye(size, dtype=torch.float64) + found.view(size, size)
    return kept_SS


@torch.no_grad()
def grams(setup: Setup, seed: int) -> list[Grams]:
    """Of every attention, in float64 products of one sample each."""

    def gather() -> list[Grams]:
        blocks = attentions(setup.dense)
        found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in blocks]

        def see(number: int, side: int, states_BTC: Tensor) -> None:
            heads_BTHK = states_BTC.unflatten(-1, (blocks[number].widths.heads, -1)).double()
            if side:
                heads_BTHK = heads_BTHK - heads_BTHK.mean(1, keepdim=True)
            found[number][side].append(torch.einsum("bthi,bthj->bhij", heads_BTHK, heads_BTHK).float())

        handles = [
            block.projections[name].register_forward_hook(
                lambda _module, _args, output, number=number, side=side: see(number, side, output)
            )
            for number, block in enumerate(blocks)
            for side, name in enumerate("qk")
        ]
        try:
            for inputs, _ in setup.batches(setup.calibration(seed), BATCH):
                setup.dense.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [(torch.cat(queries), torch.cat(keys)) for queries, keys in found]

    return setup.once(("corp", seed), gather)


def _largest(score: Tensor, count: int) -> list[int]:
    return [int(index) for index in score.argsort(descending=True, stable=True)[:count].sort().values]


def _cut(setup: Setup, seed: int, target: float) -> LoadedModel:
    size, moments, new = equal(setup, target), input_moments(setup, seed), Rewriter(setup.dense)
    for block, (query_NHKK, key_NHKK) in zip(attentions(setup.dense), grams(setup, seed), strict=True):
        parts: dict[str, list[Tensor]] = {side: [] for side in "qkvo"}
        wide = {
            side: torch.cat([weight_of(block.projections[side]), bias_of(block.projections[side])[:, None]], 1)
            for side in "qkv"
        }
        output_DC, bias_D = weight_of(block.projections["o"]), bias_of(block.projections["o"])
        for head in range(block.widths.heads):
            qk, vo = block.rows("q", head), block.rows("v", head)
            query_NKK, key_NKK = query_NHKK[:, head].double(), key_NHKK[:, head].double()
            energy = query_NKK.mean(0).diagonal() * key_NKK.mean(0).diagonal()
            stay = _largest(energy, size.width)
            left, strength, right = torch.linalg.svd(logits_map(query_NKK, key_NKK, stay))
            parts["q"].append((left * strength.sqrt()).mT @ wide["q"][qk][stay])
            parts["k"].append(strength.sqrt()[:, None] * right @ wide["k"][qk][stay])
            rows = [*range(vo.start, vo.stop), -1]
            moment = moments[block.names["o"]][rows][:, rows]
            stay = _largest(moment.diagonal()[:-1] * output_DC[:, vo].square().sum(0), size.width)
            output, bias_D = folded(output_DC[:, vo], bias_D, moment, stay)
            parts["v"].append(wide["v"][vo][stay])
            parts["o"].append(output)
        for side in "qkv":
            whole = torch.cat(parts[side])
            new.put(
                block.names[side], whole[:, :-1], whole[:, -1] if block.projections[side].bias is not None else None
            )
        new.put(block.names["o"], torch.cat(parts["o"], 1), None if block.projections["o"].bias is None else bias_D)
    if setup.whole:
        for pair in feed_forwards(setup.dense):
            second_DN, moment = weight_of(pair.second), moments[pair.names[1]]
            stay = _largest(moment.diagonal()[:-1] * second_DN.square().sum(0), size.neurons)
            second, bias = folded(second_DN, bias_of(pair.second), moment, stay)
            new.put(
                pair.names[0],
                weight_of(pair.first)[stay],
                None if pair.first.bias is None else bias_of(pair.first)[stay],
            )
            new.put(pair.names[1], second, None if pair.second.bias is None else bias)
    return new.built(widths_of(setup.dense.widths, size.width, size.neurons))


def arms(*, whole: bool = False) -> tuple[Arm, ...]:
    """One arm."""
    return (Arm("corp/corp", "corp", _cut, VERSION, {"ridge": RIDGE, "whole": whole}),)
