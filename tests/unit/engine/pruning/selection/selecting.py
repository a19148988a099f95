"""Models, scores and specs drawn for tests of selection: small enough to check by brute force."""

from typing import Any

import torch
from hypothesis import strategies as st

from api_schemas.enums import Balance, Basis, Granularity, Normalization, Scope
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import WITH_HEADS
from tests.support.checkpoints.shapes import equal_shape
from worker.engine.scoring.channels import GateScores, LayerScores, NormScores, SignedScores

LAYERS, HEADS, WIDTH, HIDDEN = 3, 3, 16, 24
DENSE = AttentionWidths.dense(LAYERS, HEADS, WIDTH)
SHAPE = equal_shape(LAYERS, HEADS, WIDTH, HIDDEN, tokens=10, other_parameters=5_000, other_flops=400_000)
COUNTED = ("attention_sparsity", "parameters", "flops")
KINDS = (LayerScores, NormScores, GateScores, SignedScores)


def drawn_scores(
    widths: AttentionWidths = DENSE, seed: int = 0, kind: type[LayerScores] = LayerScores
) -> list[LayerScores]:
    """Random scores of every layer, in the way of one of the criteria."""
    generator = torch.Generator().manual_seed(seed)

    def layer(qk: tuple[int, ...], vo: tuple[int, ...]) -> LayerScores:
        gates = [torch.randn(5, sum(side), generator=generator, dtype=torch.float64) for side in (qk, vo)]
        if kind is GateScores:
            moments = [gate.mT @ gate / 5 for gate in gates]
            alone = [moment.diagonal() for moment in moments]
            return GateScores(alone[0].split(qk), alone[1].split(vo), *moments)
        means = [gate.mean(0) for gate in gates]
        vectors = [mean.abs() for mean in means]
        if kind is SignedScores:
            return SignedScores(vectors[0].split(qk), vectors[1].split(vo), *means)
        return kind(vectors[0].split(qk), vectors[1].split(vo))

    return [layer(widths.qk, widths.vo) for widths in widths.layers]


def pruning(share: float = 0.5, kind: str = "attention_sparsity", **changes: Any) -> Pruning:
    return Pruning.model_validate({"preset": "paper", "target": {kind: share}, **changes})


@st.composite
def specs(draw: st.DrawFn, **fixed: Any) -> Pruning:
    """Any spec that the drawn model can be cut by."""
    granularity = fixed.get("granularity") or draw(st.sampled_from(Granularity))
    heads = granularity in (Granularity.ENTIRE_HEAD, *WITH_HEADS)
    values = {
        "preset": "paper",
        "granularity": granularity,
        "scope": draw(st.sampled_from(Scope)),
        "balance": draw(st.sampled_from(Balance)),
        "normalization": draw(st.sampled_from(Normalization)),
        "basis": draw(st.sampled_from(Basis)),
        "align": draw(st.sampled_from([1, 8])),
        "min_heads": draw(st.integers(0, 2)) if heads else 1,
        "min_channels": draw(st.integers(1, 5)),
        "exclude_layers": draw(st.sampled_from([(), (1,), (0, 2)])),
        "target": {draw(st.sampled_from(COUNTED)): draw(st.floats(0.01, 0.99))},
    }
    return Pruning.model_validate({**values, **fixed})
