"""What the figures, the page and the card all read out of step metrics, so that they never disagree."""

from collections.abc import Sequence
from typing import Literal

from api_schemas.metrics import Latency, Scores, StepMetrics
from api_schemas.widths import AttentionWidths, LayerWidths
from worker.engine.selection import Keep

Pair = Literal["QK", "VO"]
PAIRS: tuple[Pair, ...] = ("QK", "VO")


def metric_name(multi_label: bool) -> str:
    """The task's own metric: accuracy for one label a clip, mean average precision for several."""
    return "mAP" if multi_label else "accuracy"


def metric(scores: Scores | None, multi_label: bool) -> float | None:
    """The task's own metric of one split, in [0, 1]; None where it was not measured."""
    if scores is None:
        return None
    return scores.mean_average_precision if multi_label else scores.accuracy


def kept_channels(layer: LayerWidths, pair: Pair) -> tuple[int, ...]:
    """Channels of each surviving head, in order."""
    return layer.qk if pair == "QK" else layer.vo


def layer_sparsity(dense: AttentionWidths, cut: AttentionWidths, pair: Pair) -> tuple[float, ...]:
    """Share of each layer's QK (or VO) channels that is gone, in [0, 1]."""
    totals = (
        (sum(kept_channels(before, pair)), sum(kept_channels(after, pair)))
        for before, after in zip(dense.layers, cut.layers, strict=True)
    )
    return tuple(1.0 - after / before if before else 0.0 for before, after in totals)


def head_sparsity(dense: AttentionWidths, kept: Keep, pair: Pair) -> tuple[tuple[float, ...], ...]:
    """By layer, the share of each of the original's heads' QK (or VO) channels that is gone; 1.0 for a head that is gone.

    `kept` counts in the original.
    """
    layers = []
    for before, heads in zip(dense.layers, kept, strict=True):
        left = {head.head: len(head.qk if pair == "QK" else head.vo) for head in heads}
        layers.append(
            tuple(1.0 - left.get(number, 0) / width for number, width in enumerate(kept_channels(before, pair)))
        )
    return tuple(layers)


def batch_sizes(steps: Sequence[StepMetrics]) -> tuple[int, ...]:
    """Every batch size that was timed at some step, ascending."""
    return tuple(sorted({row.batch_size for step in steps for row in step.latency}))


def latency_at(step: StepMetrics, batch_size: int) -> Latency | None:
    """The timing of one batch size, or None where this step has none."""
    return next((row for row in step.latency if row.batch_size == batch_size), None)
