"""A re-implementation of A³ (Wong, Zhang et al., *A³: an Analytical Low-Rank Approximation Framework for Attention*, arXiv
2505.12942): QK, OV and MLP each made narrower by a closed form, one-shot, all heads and layers alike. Not the authors' code.

- QK (the error of a head's scores): with R = E[x̃ x̃ᵀ] of attention's input, bias included by a 1 behind x, the best rank r of
  W̃_qᵀ W̃_k under E‖x̃ᵀ(M − M_r)x̃′‖² is the SVD of R^½ W̃_qᵀ W̃_k R^½ cut at r. Queries and keys become its factors.
- OV (the error of a head's output): with C = E[c cᵀ] of the head's context, which is its attention-weighted input times W_v,
  not centred, the SVD of C^½ W_oᵀ cut at r; W_o becomes V_r, and W_v takes V_rᵀ W_o in.
- MLP (a CUR decomposition of W₂ in which columns are chosen): the neurons of largest λ_n = ‖R^½[:, n]‖ ‖W₂[:, n]‖ stay, R = E[a
  aᵀ] of the activations; what stays keeps its weights. `a3, U by least squares` has the best U for them instead, which is ours:
  W₂ of what stays is the least-squares solution of W₂ a from the a that stay (ridge 1e-3 of their mean square).

Variant: uniform ranks, the same share of attention and MLP, one pass over the dense model. The MLP part is as we remember the
paper: its text was not at hand.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import (
    Rewriter,
    attentions,
    bias_of,
    equal,
    feed_forwards,
    input_moments,
    weight_of,
    widths_of,
)
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1
RIDGE = 1e-3


class Factors(NamedTuple):
    """Two maps (r, …) whose product is the best approximation of rank r."""

    left: Tensor
    right: Tensor


def root(moment_CC: Tensor) -> Tensor:
    """The symmetric square root of a second moment."""
    values_C, vectors_CC = torch.linalg.eigh(moment_CC)
    found: Tensor = (vectors_CC * values_C.clamp_min(0).sqrt()) @ vectors_CC.mT
    return found


def scores_of_rank(query_KD: Tensor, key_KD: Tensor, moment_DD: Tensor, rank: int) -> Factors:
    """Queries and keys (rank, D) whose scores are nearest to those of `query` and `key` under the inputs' second moment."""
    root_DD = root(moment_DD)
    # Of a product of thin matrices: QR first, so that the SVD is K × K.
    left_DK, left_KK = torch.linalg.qr(root_DD @ query_KD.mT)
    right_DK, right_KK = torch.linalg.qr(root_DD @ key_KD.mT)
    u_KK, s_K, v_KK = torch.linalg.svd(left_KK @ right_KK.mT)
    u_Dr, v_Dr, s_r = left_DK @ u_KK[:, :rank], right_DK @ v_KK[:rank].mT, s_K[:rank]
    scale_r = s_r.clamp_min(1e-12 * s_K[0].clamp_min(1e-30)).rsqrt()
    # M R^½ V S^-½ and Mᵀ R^½ U S^-½: the factors of R^-½ (U S Vᵀ) R^-½ without an inverse.
    query_rD = ((query_KD.mT @ (key_KD @ (root_DD @ v_Dr))) * scale_r).mT
    key_rD = ((key_KD.mT @ (query_KD @ (root_DD @ u_Dr))) * scale_r).mT
    return Factors(query_rD, key_rD)


def output_of_rank(output_DK: Tensor, moment_KK: Tensor, rank: int) -> Factors:
    """T (rank, K) of the context and W_o (D, rank): W_o T c is nearest to `output` c under the context's second moment."""
    orthonormal_DK, upper_KK = torch.linalg.qr(output_DK)
    _, vectors_KK = torch.linalg.eigh(upper_KK @ moment_KK @ upper_KK.mT)
    axes_Kr = vectors_KK.flip(1)[:, :rank]
    return Factors(axes_Kr.mT @ upper_KK, orthonormal_DK @ axes_Kr)


def neurons_of(second_DN: Tensor, moment_NN: Tensor, count: int) -> Tensor:
    """The `count` neurons of largest λ, in rising order."""
    score_N = moment_NN.diagonal().clamp_min(0).sqrt() * second_DN.norm(dim=0)
    found: Tensor = score_N.argsort(descending=True, stable=True)[:count].sort().values
    return found


def least_squares(second_DN: Tensor, moment_NN: Tensor, stay: Tensor) -> Tensor:
    """W (D, count) of least E‖W₂ a − W a_stay‖² + ridge ‖W − W₂_stay‖²."""
    among = moment_NN[stay][:, stay]
    penalty = RIDGE * among.diagonal().mean() * torch.eye(len(stay), dtype=among.dtype)
    wanted_DS = second_DN @ moment_NN[:, stay] + second_DN[:, stay] @ penalty
    solved_SD: Tensor = torch.linalg.solve(among + penalty, wanted_DS.mT)
    return solved_SD.mT


def _cut(setup: Setup, seed: int, target: float, *, refit: bool) -> LoadedModel:
    size, moments, new = equal(setup, target), input_moments(setup, seed), Rewriter(setup.dense)
    for block in attentions(setup.dense):
        parts: dict[str, list[Tensor]] = {side: [] for side in "qkvo"}
        maps = {side: block.projections[side] for side in "qkv"}
        wide = {side: torch.cat([weight_of(each), bias_of(each)[:, None]], 1) for side, each in maps.items()}
        output_DC, context_CC = weight_of(block.projections["o"]), moments[block.names["o"]][:-1, :-1]
        for head in range(block.widths.heads):
            qk, vo = block.rows("q", head), block.rows("v", head)
            query, key = scores_of_rank(wide["q"][qk], wide["k"][qk], moments[block.names["q"]], size.width)
            turn, output = output_of_rank(output_DC[:, vo], context_CC[vo, vo], size.width)
            for side, part in {"q": query, "k": key, "v": turn @ wide["v"][vo], "o": output}.items():
                parts[side].append(part)
        for side in "qkv":
            whole = torch.cat(parts[side])
            bias = whole[:, -1] if maps[side].bias is not None else None
            new.put(block.names[side], whole[:, :-1], bias)
        new.put(block.names["o"], torch.cat(parts["o"], 1))
    if setup.whole:
        for pair in feed_forwards(setup.dense):
            second_DN, moment_NN = weight_of(pair.second), moments[pair.names[1]][:-1, :-1]
            stay = neurons_of(second_DN, moment_NN, size.neurons)
            new.put(
                pair.names[0],
                weight_of(pair.first)[stay],
                None if pair.first.bias is None else bias_of(pair.first)[stay],
            )
            new.put(pair.names[1], least_squares(second_DN, moment_NN, stay) if refit else second_DN[:, stay])
    return new.built(widths_of(setup.dense.widths, size.width, size.neurons))


def arms(*, whole: bool = False) -> tuple[Arm, ...]:
    """As published; where feed-forward blocks are cut, also with their least squares."""
    named = {"a3": False, "a3, U by least squares": True} if whole else {"a3": False}
    return tuple(
        Arm(f"a3/{name}", "a3", partial(_cut, refit=refit), VERSION, {"refit": refit, "whole": whole})
        for name, refit in named.items()
    )
