"""The criteria, each by name: what is summed over a structure, and what is made of the sum."""

import math
from collections.abc import Callable, Sequence

import torch

from api_schemas.enums import Criterion
from worker.engine.attention import AttentionBlock, projections_by_name
from worker.engine.scoring.channels import LayerScores, channel_scores
from worker.engine.scoring.fisher import Moments

NEEDS_GRADIENTS = frozenset({Criterion.FISHER})


def score(
    criterion: Criterion, blocks: Sequence[AttentionBlock], *, moments: Moments | None, seed: int
) -> tuple[LayerScores, ...]:
    """Additive channel scores of every layer.

    `magnitude`: θ², whose sum over a structure is the square of its L2 norm. `fisher`: E[g²]. `random`: uniform draws
    from `seed`, a control. `moments` is what `fisher_information` returned, for the criteria in NEEDS_GRADIENTS.
    """
    linears = projections_by_name(tuple(blocks))
    match criterion:
        case Criterion.MAGNITUDE:

            def squares(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
                linear = linears[name]
                return linear.weight.detach().square(), None if linear.bias is None else linear.bias.detach().square()

            return channel_scores(blocks, squares)
        case Criterion.FISHER:
            if moments is None:
                raise ValueError("fisher needs the moments of the gradients")
            return channel_scores(blocks, moments.__getitem__)
        case Criterion.RANDOM:
            generator = torch.Generator().manual_seed(seed)

            def draw(widths: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
                return tuple(torch.rand(width, generator=generator, dtype=torch.float64) for width in widths)

            return tuple(LayerScores(draw(block.widths.qk), draw(block.widths.vo)) for block in blocks)


def finish(criterion: Criterion) -> Callable[[float], float]:
    """What a structure's sum becomes in the ranking: the L2 norm for magnitude, the sum itself for the others."""
    return math.sqrt if criterion is Criterion.MAGNITUDE else float
