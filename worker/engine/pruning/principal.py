"""The principal basis: every head is rotated so that its channels are its principal axes, in order of energy.

A head's function leaves two choices of coordinates free. Scores are q·k, so q → A q, k → B k changes nothing if AᵀB = I; the
output is W_o x, so x → T x changes nothing if W_o becomes U with U T = W_o. The choices made here put as much energy as any
choice can into the first r coordinates, for every r:

- QK: the SVD of C_q^½ C_k^½ = P S Rᵀ, from the second moment of q (bias included) and that of k without each sample's mean
  over tokens (softmax ignores what is added to all keys). A = S^-½ Rᵀ C_k^½, B = S^-½ Pᵀ C_q^½: q and k then both have second
  moment S, and channel c carries S_c² of the logits' energy. Zhang et al. (A³, arXiv 2505.12942, theorem 1) from D×D
  moments; the d×d ones give the same singular values and are far smaller.
- VO: the eigenvectors of the head's centred output, W_o C_x W_oᵀ (SliceGPT, arXiv 2401.15024, §3.3, here a head's output
  rather than the residual stream). With the QR decomposition W_o = Q R and the eigenvectors E of R C_x Rᵀ, U = Q E and
  T = Eᵀ R: no inverse, and exact even if W_o does not have full rank.

If several query heads share a key–value head (grouped queries), they also share A, B and T: the second moment of q is the sum
over the query heads, C_x their mean, and W_o their columns stacked; a query head's own U are its rows of the result. This is also
exact, and for one query head the same as above.

With rotary positions the QK side keeps its own channels: among the A that keep the scores, only rotations of the pairs themselves
commute with the rotary rotation, and these order nothing. It also keeps them where QK channels are removed only with their head
(norms of q and k, relative positions): a rotation would change the scores, and there is nothing to order. Shapes: K channels of a
head, C of all heads, D model width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.models.model_spec import rebuild
from worker.engine.runtime.mapped import in_file
from worker.engine.scoring.observations import (
    Context,
    GradientMoments,
    LayerObservations,
    Observations,
    QKMoments,
    Statistic,
)

REQUIRED_STATISTICS = frozenset({Statistic.QK_MOMENTS, Statistic.CONTEXT})
"""What the basis needs `observe` to gather."""

JITTER = 1e-8
"""Added to the moments, as a share of their mean eigenvalue: a direction that never occurs must not divide by zero."""


@dataclass(frozen=True)
class HeadBasis:
    """The change of coordinates of one head, float64. `query` A, `key` B (K, K); `value` T (K, K); `output` U (D, K), of several
    queries one below another."""

    query: Tensor
    key: Tensor
    key_mean: Tensor
    """Mean of k in the old coordinates, (K): it is taken out of b_k, which softmax does not notice."""
    value: Tensor
    output: Tensor
    qk_energy: Tensor
    """(K): share of each channel in the energy of the head's logits, S², falling; in no order where q and k keep theirs."""
    vo_energy: Tensor
    """(K): variance of each channel of the head's output, falling."""


LayerBasis = tuple[HeadBasis, ...]


def _root(moment_KK: Tensor) -> Tensor:
    """The symmetric square root of a second moment, made positive definite."""
    width = len(moment_KK)
    scale = moment_KK.trace() / width
    # A head that is never active has moment zero; any basis is as good, and the identity keeps it finite.
    jitter = JITTER * scale if scale > 0 else torch.ones((), dtype=moment_KK.dtype)
    values_K, vectors_KK = torch.linalg.eigh(moment_KK + jitter * torch.eye(width, dtype=moment_KK.dtype))
    root_KK: Tensor = (vectors_KK * values_K.clamp_min(0).sqrt()) @ vectors_KK.mT
    return root_KK


def _signs(vectors: Tensor) -> Tensor:
    """+1 or -1 a column, so that its largest entry becomes positive: signs are free, and must not depend on the machine."""
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).to(vectors.dtype)


def head_basis(
    q_KK: Tensor, k_KK: Tensor, k_mean_K: Tensor, covariance_KK: Tensor, output_DK: Tensor, *, own_qk: bool = False
) -> HeadBasis:
    """The principal basis of one head, from its moments and its columns of W_o, which of several queries stand one below another.
    All float64 on the CPU.

    own_qk: q and k keep their channels.
    """
    query_KK, key_KK, qk_energy_K = _own_qk(q_KK, k_KK) if own_qk else _principal_qk(q_KK, k_KK)
    orthonormal_DK, upper_KK = torch.linalg.qr(output_DK)
    variance_K, axes_KK = torch.linalg.eigh(upper_KK @ covariance_KK @ upper_KK.mT)
    variance_K, axes_KK = variance_K.flip(0), axes_KK.flip(1)
    axes_KK = axes_KK * _signs(axes_KK)
    return HeadBasis(
        query=query_KK,
        key=key_KK,
        key_mean=k_mean_K,
        value=axes_KK.mT @ upper_KK,
        output=orthonormal_DK @ axes_KK,
        qk_energy=qk_energy_K,
        vo_energy=variance_K.clamp_min(0),
    )


def _own_qk(q_KK: Tensor, k_KK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_principal_qk`, of a head that keeps its channels."""
    same_KK = torch.eye(len(q_KK), dtype=q_KK.dtype)
    return same_KK, same_KK, q_KK.diagonal() * k_KK.diagonal()


def _principal_qk(q_KK: Tensor, k_KK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, and the energy of each channel."""
    root_q, root_k = _root(q_KK), _root(k_KK)
    left, singular_K, right_t = torch.linalg.svd(root_q @ root_k)
    signs_K = _signs(left)
    left, right_t = left * signs_K, right_t * signs_K[:, None]
    scale_K1 = singular_K.rsqrt()[:, None]
    return scale_K1 * (right_t @ root_k), scale_K1 * (left.mT @ root_q), singular_K.square()


def _moments(layer: LayerObservations) -> tuple[QKMoments, Context]:
    """What REQUIRED_STATISTICS gathered of a layer. ValueError where they were not asked for."""
    if layer.qk is None or layer.context is None:
        raise ValueError(f"the principal basis needs {', '.join(sorted(REQUIRED_STATISTICS))} observed")
    return layer.qk, layer.context


def principal_bases(blocks: Sequence[AttentionBlock], observed: Observations) -> tuple[LayerBasis, ...]:
    """The basis of every head of every layer. Raises ValueError where `observed` lacks REQUIRED_STATISTICS."""
    bases = []
    for block, layer in zip(blocks, observed.layers, strict=True):
        qk, context = _moments(layer)
        output_DC = block.projections["o"].weight.detach().double().cpu()
        covariance_CC = context.covariance
        heads = []
        for h in range(block.widths.heads):
            at = block.rows_by_query("o", h)
            of_queries = qk.q[h * block.queries : (h + 1) * block.queries]
            moments = torch.stack(of_queries).sum(0), qk.k[h], qk.k_mean[h]
            covariance_KK = torch.stack([covariance_CC[columns, columns] for columns in at]).mean(0)
            output_DK = torch.cat([output_DC[:, columns] for columns in at])
            own_qk = bool(block.widths.rotary) or block.widths.qk_whole
            heads.append(head_basis(*moments, covariance_KK, output_DK, own_qk=own_qk))
        bases.append(tuple(heads))
    return tuple(bases)


def rotate(loaded: LoadedModel, bases: Sequence[LayerBasis]) -> LoadedModel:
    """The same function in the principal basis: a new model; `loaded` is not changed."""
    state = dict(loaded.model.state_dict())
    for block, basis in zip(attention_blocks(loaded.model, loaded.model_spec, loaded.widths), bases, strict=True):
        for side, name in block.names.items():
            weight = state[f"{name}.weight"]
            new = weight.double().cpu().clone()
            bias = state.get(f"{name}.bias")
            new_bias = None if bias is None or side == "o" else bias.double().cpu().clone()
            for h, head in enumerate(basis):
                own = block.rows_by_query(side, h)
                if side == "o":
                    for columns, output_DK in zip(own, head.output.chunk(len(own)), strict=True):
                        new[:, columns] = output_DK
                    continue
                turn_KK = {"q": head.query, "k": head.key, "v": head.value}[side]
                for rows in own:
                    new[rows] = turn_KK @ new[rows]
                    if new_bias is not None:
                        centred_K = new_bias[rows] - head.key_mean if side == "k" else new_bias[rows]
                        new_bias[rows] = turn_KK @ centred_K
            # Into its file at once: all layers together would be as large as a model.
            state[f"{name}.weight"] = in_file(new.to(weight))
            if bias is not None and new_bias is not None:
                state[f"{name}.bias"] = new_bias.to(bias)
    return replace(loaded, model=rebuild(loaded.model, loaded.model_spec, loaded.widths, state))


def rotate_observations(observed: Observations, bases: Sequence[LayerBasis]) -> Observations:
    """What `observe` would have seen in the principal basis: moments turn with the coordinates, so no second pass is needed.

    Gradients turn the other way round: at q with B (as AᵀB = I), at k with A; at the context they are Uᵀ times those at the
    layer's output, where those were observed. What is no moment (Fisher, gates) cannot be turned and is left out.

    Raises ValueError where `observed` lacks REQUIRED_STATISTICS.
    """
    layers = tuple(_turned(layer, basis) for layer, basis in zip(observed.layers, bases, strict=True))
    return replace(observed, layers=layers)


def _turned(layer: LayerObservations, basis: LayerBasis) -> LayerObservations:
    def turned(moments: Sequence[Tensor], by: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(turn @ moment @ turn.mT for moment, turn in zip(moments, by, strict=True))

    before, seen = _moments(layer)
    each = len(before.q) // max(len(basis), 1)
    of_queries = [head for head in basis for _ in range(each)]
    queries, values = ([getattr(head, name) for head in of_queries] for name in ("query", "value"))
    keys = [head.key for head in basis]
    zeros = tuple(torch.zeros_like(mean_K) for mean_K in before.k_mean)
    qk = QKMoments(turned(before.q, queries), turned(before.k, keys), zeros)
    turn_CC = torch.block_diag(*values) if values else torch.zeros(0, 0, dtype=torch.float64)
    context = Context(turn_CC @ seen.mean, in_file(turn_CC @ seen.second @ turn_CC.mT))
    gradients = None
    if layer.gradients is not None and layer.output_gradient is not None:
        at_output_DD = layer.output_gradient
        gradients = GradientMoments(
            q=turned(layer.gradients.q, [head.key for head in of_queries]),
            k=turned(layer.gradients.k, [head.query for head in basis]),
            context=tuple(
                output_DK.mT @ at_output_DD @ output_DK for head in basis for output_DK in head.output.chunk(each)
            ),
        )
    return LayerObservations(None, None, None, qk, context, gradients, layer.output_gradient, layer.tokens)


def ranks_for_energy(energy_K: Tensor, share: float = 0.99) -> int:
    """The fewest leading channels that hold `share` of a falling energy spectrum; 0 where there is none."""
    total = float(energy_K.sum())
    if total <= 0:
        return 0
    return int((energy_K.cumsum(0) < share * total - 1e-12 * total).sum()) + 1
