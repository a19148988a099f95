"""The criteria, each by name: the score of a set of channels (docs/method.md has the table).

Coupled pairs: a QK channel is a row of W_q and of W_k, a VO channel a row of W_v and a column of W_o. Biases count, except b_o,
because it belongs to no channel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from api_schemas.enums import Criterion
from worker.engine.models.attention import AttentionBlock
from worker.engine.scoring.channels import GateScores, LayerScores, NormScores, SignedScores, by_head
from worker.engine.scoring.observations import Channels, LayerObservations, Observations, Statistic

REQUIRED_STATISTICS: dict[Criterion, frozenset[Statistic]] = {
    Criterion.MAGNITUDE: frozenset(),
    Criterion.FISHER: frozenset({Statistic.FISHER}),
    Criterion.FISHER_SALIENCY: frozenset({Statistic.SALIENCY}),
    Criterion.FISHER_GATE: frozenset({Statistic.GATES}),
    Criterion.TAYLOR: frozenset({Statistic.GATES}),
    Criterion.ENERGY: frozenset({Statistic.QK_MOMENTS, Statistic.CONTEXT}),
    Criterion.FISHER_ENERGY: frozenset({Statistic.QK_MOMENTS, Statistic.CONTEXT, Statistic.GRADIENTS}),
    Criterion.RANDOM: frozenset(),
}
"""What each criterion needs `observe` to gather; nothing: it needs no samples."""


def score(
    criterion: Criterion, blocks: Sequence[AttentionBlock], *, observed: Observations | None = None, seed: int = 0
) -> tuple[LayerScores, ...]:
    """Scores of every layer. `blocks` are those that were observed, the weights unchanged since.

    With θ a structure's parameters and g the gradient of one sample's loss:

    - `magnitude`: √Σ θ², the L2 norm.
    - `fisher`: Σ E[g²] (arXiv 2509.26207).
    - `fisher_saliency`: ½ Σ θ² E[g²], the loss's second-order change when θ goes to 0, Fisher for Hessian, its
      off-diagonal left out (Theis et al., arXiv 1801.05787, eq. 6).
    - `fisher_gate`: E[(Σ θ·g)²] over one side of the coupling, the Fisher information of a gate on the structure (Kwon et
      al., arXiv 2204.09656, §4.1; the factor ½ left out); exact for sets.
    - `taylor`: abs(E Σ θ·g) over one side, the loss's first-order change (Molchanov et al., arXiv 1906.10771, without their
      square); in a set the signed terms are added before the absolute value is taken.
    - `energy`: QK channel c: E[q_c²]·E[(k_c − k̄_c)²] over tokens, k̄ the mean over the sample's tokens: the energy it puts
      into the logits, up to what softmax ignores. VO channel c: Var[x_c]·‖W_o[:, c]‖², x the context: the energy it puts
      into the layer's output, up to what a bias can carry. Summed over a set. Of a rotated pair either channel of q meets both
      of k, so E[k²] is their mean, and k̄ is 0.
    - `fisher_energy`: QK channel c: E[q_c²]·E[(∂ℓ/∂q_c)²]·τ; VO channel c: Var[x_c]·E[(∂ℓ/∂x_c)²]·τ, over tokens: what the
      channel carries times how much the loss listens. It is the gate's Fisher information with activations and gradients taken as
      independent (the Kronecker approximation of Martens and Grosse, arXiv 1503.05671, §3), so it comes from moments, which
      turn with the basis. A gate's gradient is a sum over tokens, so τ is their number, as a share of those of the longest layer:
      1 everywhere in an encoder of one length. Summed over a set.
    - `random`: uniform draws from `seed`, a control; summed over a set.

    Where several queries share a head, a channel has a row of W_q and a column of W_o in each of them: θ are all of these, and a
    product with something of q or of the context is summed over the queries.

    A whole head scores the sum over its QK and VO channels (the norm over both for `magnitude`), and its VO side alone
    for `fisher_gate` and `taylor`, whose two couplings each say what the whole head does.

    Raises ValueError where `observed` lacks what the criterion needs (REQUIRED_STATISTICS).
    """
    if criterion is Criterion.RANDOM:
        generator = torch.Generator().manual_seed(seed)
        return tuple(LayerScores(_draw(b.widths.qk, generator), _draw(b.widths.vo, generator)) for b in blocks)
    if criterion is Criterion.MAGNITUDE:
        return tuple(NormScores(*_split(block, _norms(block))) for block in blocks)
    if observed is None:
        raise ValueError(f"{criterion.value} needs observations")
    return tuple(
        _observed(criterion, block, layer, layer.tokens / observed.tokens)
        for block, layer in zip(blocks, observed.layers, strict=True)
    )


def _observed(criterion: Criterion, block: AttentionBlock, layer: LayerObservations, length: float) -> LayerScores:
    match criterion:
        case Criterion.FISHER if layer.fisher:
            return LayerScores(*_split(block, layer.fisher))
        case Criterion.FISHER_SALIENCY if layer.saliency:
            return LayerScores(*_split(block, Channels(layer.saliency.qk / 2, layer.saliency.vo / 2)))
        case Criterion.FISHER_GATE if layer.gates:
            alone = Channels(layer.gates.qk.diagonal(), layer.gates.vo.diagonal())
            return GateScores(*_split(block, alone), layer.gates.qk, layer.gates.vo)
        case Criterion.TAYLOR if layer.gates:
            mean = layer.gates.mean
            return SignedScores(*_split(block, Channels(mean.qk.abs(), mean.vo.abs())), mean.qk, mean.vo)
        case Criterion.ENERGY if layer.qk and layer.context:
            keys = [_of_pairs(block, head, k.diagonal()) for head, k in enumerate(layer.qk.k)]
            queries = _over_queries(block, [q.diagonal() for q in layer.qk.q])
            qk = tuple(q_K * k_K for q_K, k_K in zip(queries, keys, strict=True))
            columns_C = _weight(block, "o").square().sum(0)
            # A variance, below zero only by rounding.
            variance_C = layer.context.covariance.diagonal().clamp_min(0)
            return LayerScores(qk, by_head(block, "v", block.over_queries("o", variance_C * columns_C)))
        case Criterion.FISHER_ENERGY if layer.qk and layer.context and layer.gradients:
            gradients = layer.gradients
            of_q = [q.diagonal() * g.diagonal() * length for q, g in zip(layer.qk.q, gradients.q, strict=True)]
            variances = layer.context.covariance.diagonal().clamp_min(0).split(list(block.query_widths("o")))
            of_o = [v * g.diagonal() * length for v, g in zip(variances, gradients.context, strict=True)]
            return LayerScores(_over_queries(block, of_q), _over_queries(block, of_o))
        case _:
            raise ValueError(f"{criterion.value} needs {', '.join(sorted(REQUIRED_STATISTICS[criterion]))} observed")


def _of_pairs(block: AttentionBlock, head: int, energy_K: Tensor) -> Tensor:
    """For the channels of a rotated pair, the mean of both; others unchanged.

    In a rotated pair each channel of q meets both of k, weighted by the cosine or the sine of an angle, whose squares average one
    half: the pair contributes ½ (E[q_a²] + E[q_b²]) (E[k_a²] + E[k_b²]) to the logits.
    """
    pairs = len(block.widths.rotary[head]) if block.widths.rotary else 0
    if not pairs:
        return energy_K
    mean_P = (energy_K[:pairs] + energy_K[pairs : 2 * pairs]) / 2
    return torch.cat([mean_P, mean_P, energy_K[2 * pairs :]])


def _over_queries(block: AttentionBlock, by_query: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """From one vector (K) per query head, ordered by head: their sum for each head."""
    heads = range(0, len(by_query), block.queries)
    return tuple(sum(by_query[first + 1 : first + block.queries], by_query[first]) for first in heads)


def _split(block: AttentionBlock, channels: Channels) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return by_head(block, "k", channels.qk), by_head(block, "v", channels.vo)


def _draw(widths: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    return tuple(torch.rand(width, generator=generator, dtype=torch.float64) for width in widths)


def _weight(block: AttentionBlock, side: str) -> Tensor:
    return block.projections[side].weight.detach().double().cpu()


def _norms(block: AttentionBlock) -> Channels:
    """The L2 norm of every channel's parameters."""
    square = {side: _weight(block, side).square().sum(0 if side == "o" else 1) for side in block.projections}
    for side in "qkv":
        bias = block.projections[side].bias
        if bias is not None:
            square[side] += bias.detach().double().cpu().square()
    found = {side: block.over_queries(side, numbers) for side, numbers in square.items()}
    return Channels((found["q"] + found["k"]).sqrt(), (found["v"] + found["o"]).sqrt())
