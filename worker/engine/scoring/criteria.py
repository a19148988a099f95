"""The criteria, each by name: what a set of channels scores."""

from collections.abc import Callable, Sequence

import torch

from api_schemas.enums import Criterion
from worker.engine.attention import AttentionBlock, projections_by_name
from worker.engine.scoring.channels import LayerScores, NormScores, channel_sums
from worker.engine.scoring.fisher import Moments

NEEDS_GRADIENTS = frozenset({Criterion.FISHER})


def score(
    criterion: Criterion, blocks: Sequence[AttentionBlock], *, moments: Moments | None, seed: int
) -> tuple[LayerScores, ...]:
    """Scores of every layer.

    `magnitude`: the L2 norm. `fisher`: the sum of E[g²]. `random`: uniform draws from `seed`, a control.
    `moments` is what `fisher_information` returned, for the criteria in NEEDS_GRADIENTS.
    """
    linears = projections_by_name(tuple(blocks))
    match criterion:
        case Criterion.MAGNITUDE:

            def squares(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
                linear = linears[name]
                return linear.weight.detach().square(), None if linear.bias is None else linear.bias.detach().square()

            sums = [channel_sums(block, squares) for block in blocks]
            return tuple(NormScores(*(tuple(v.sqrt() for v in side) for side in layer)) for layer in sums)
        case Criterion.FISHER:
            if moments is None:
                raise ValueError("fisher needs the moments of the gradients")
            return tuple(LayerScores(*channel_sums(block, moments.__getitem__)) for block in blocks)
        case Criterion.RANDOM:
            generator = torch.Generator().manual_seed(seed)

            def draw(widths: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
                return tuple(torch.rand(width, generator=generator, dtype=torch.float64) for width in widths)

            return tuple(LayerScores(draw(block.widths.qk), draw(block.widths.vo)) for block in blocks)
        case _:
            raise ValueError(f"{criterion.value} is not computed yet")


def finish(_criterion: Criterion) -> Callable[[float], float]:
    """Scores are finished already; until selection asks `LayerScores.of`."""
    return float
