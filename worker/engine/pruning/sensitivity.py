"""Sensitivity: the cost of removing a quarter, a half and three quarters of each layer alone, before the first step.

Each trial cuts as the job does (its granularity, criterion, basis and compensation), without recovery, and is measured on a few
validation samples. It shows which layers matter, and does not predict the job's result.
"""

from collections.abc import Callable

from api_schemas.enums import TargetKind
from api_schemas.results.metrics import LayerSensitivity, Scores, Sensitivity
from api_schemas.spec.pruning import Pruning
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_model import SENSITIVITY_SHARES
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.pruning.cutting import ScoredModel
from worker.engine.pruning.selection import KeptHeads, Ranking, widths_of


def layer_rankings(scored: ScoredModel, shape: ModelShape, pruning: Pruning) -> tuple[Ranking, ...]:
    """For every attention, also those that the job leaves out, a ranking of its structures alone."""
    widths, kind = scored.loaded.widths, TargetKind.ATTENTION_SPARSITY
    return tuple(
        Ranking(scored.scores, widths, shape, pruning, kind, included=(number,)) for number in range(len(widths.layers))
    )


def analyse(
    scored: ScoredModel,
    shape: ModelShape,
    pruning: Pruning,
    *,
    apply: Callable[[KeptHeads], LoadedModel],
    evaluate: Callable[[LoadedModel], Scores],
    progress: Callable[[int, int], None],
) -> Sensitivity:
    """Cut every layer alone by each of SENSITIVITY_SHARES and measure. `scored` is the original model, and is not changed.

    A share is of the layer's own attention parameters, met to the nearest structure that min_heads and min_channels leave:
    where several shares come to the same cut it is measured once. `progress` counts cuts.
    """
    widths = scored.loaded.widths
    dense = evaluate(scored.loaded)
    everything = accounting.attention_parameters(shape, shape.dense)
    found: list[LayerSensitivity] = []
    for layer, ranking in enumerate(layer_rankings(scored, shape, pruning)):
        block = shape.attention[layer]
        whole = accounting.layer_parameters(block, widths.layers[layer])
        measured: dict[KeptHeads, Scores] = {}
        keeps = [ranking.heads(share * whole / everything) for share in SENSITIVITY_SHARES]
        for number, keep in enumerate(keeps, start=1):
            if keep not in measured:
                measured[keep] = evaluate(apply(keep))
            progress(layer * len(SENSITIVITY_SHARES) + number, len(widths.layers) * len(SENSITIVITY_SHARES))
        left = [accounting.layer_parameters(block, widths_of(keep, widths).layers[layer]) for keep in keeps]
        found.append(
            LayerSensitivity(
                layer=layer,
                # A layer that an earlier job left without heads has nothing to lose.
                removed=tuple(
                    1.0 - parameters / max(whole, 1) if widths.layers[layer].heads else 0.0 for parameters in left
                ),
                metric=tuple(measured[keep].metric for keep in keeps),
                cross_entropy=tuple(measured[keep].cross_entropy for keep in keeps),
            )
        )
    return Sensitivity(
        samples=dense.samples,
        shares=SENSITIVITY_SHARES,
        dense_metric=dense.metric,
        dense_cross_entropy=dense.cross_entropy,
        layers=tuple(found),
    )
