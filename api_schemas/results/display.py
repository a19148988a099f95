"""What the report, the model card and the page all read out of step metrics, so that they never disagree."""

from collections.abc import Sequence
from math import sqrt
from typing import Literal

from api_schemas.results import speed
from api_schemas.results.metrics import ACCURACY, COSINE, LOSS, EpochLoss, Latency, Scores, StepMetrics
from api_schemas.results.widths import AttentionWidths, LayerWidths

Pair = Literal["QK", "VO"]
PAIRS: tuple[Pair, ...] = ("QK", "VO")
LEAST_SHARE, LEAST_RATIO = 0.1, 0.5
"""How much an axis of shares, or of speed-ups, covers at least, so that a small difference looks small."""


def metric_name(steps: Sequence[StepMetrics]) -> str:
    """What the task is measured by."""
    found = steps[0].validation.headline
    return "metric" if found is None else found.name


def written(scores: Scores | None) -> str:
    """The task's own metric of one split; a dash where it was not measured."""
    found = None if scores is None else scores.headline
    return "–" if found is None else found.text


def loss_written(scores: Scores | None) -> str:
    """The cross entropy likewise."""
    return "–" if scores is None or scores.cross_entropy is None else f"{scores.cross_entropy:.4f}"


def has_loss(steps: Sequence[StepMetrics]) -> bool:
    """Whether there is a cross entropy beside the metric."""
    return steps[0].validation.cross_entropy is not None and metric_name(steps) != LOSS


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


def block_sparsity(dense: AttentionWidths, cut: AttentionWidths) -> tuple[float, ...]:
    """Share of each feed-forward block's neurons that is gone, in [0, 1]."""
    return tuple(1.0 - after / before for before, after in zip(dense.feed_forward, cut.feed_forward, strict=True))


def head_sparsity(dense: AttentionWidths, cut: AttentionWidths, pair: Pair) -> tuple[tuple[float, ...], ...]:
    """By layer, the share of each of the original's heads' QK (or VO) channels that is gone; 1.0 for a head that is gone."""
    layers = []
    for before, after in zip(dense.layers, cut.layers, strict=True):
        left = dict(zip(after.numbers, kept_channels(after, pair), strict=True))
        of_heads = zip(before.numbers, kept_channels(before, pair), strict=True)
        layers.append(tuple(1.0 - left.get(number, 0) / width for number, width in of_heads))
    return tuple(layers)


def batch_sizes(steps: Sequence[StepMetrics]) -> tuple[int, ...]:
    """Every batch size that was timed at some step, ascending."""
    return tuple(sorted({row.batch_size for step in steps for row in step.latency}))


def latency_at(step: StepMetrics, batch_size: int) -> Latency | None:
    """The timing of one batch size, or None where this step has none."""
    return next((row for row in step.latency if row.batch_size == batch_size), None)


def allowed(original: Scores, max_drop: float) -> float | None:
    """The worst value of the task's own metric that `stop` lets pass; None where nothing was measured."""
    found = original.headline
    if found is None:
        return None
    return found.value - max_drop if found.higher_is_better else found.value + max_drop


def interval(scores: Scores) -> tuple[float, float] | None:
    """Wilson's 95% interval of an accuracy, from its number of samples (Wilson 1927). None of metrics that count otherwise.

    It says how far other samples would move the number. The difference of two models on the same samples is surer.
    """
    found = scores.headline
    if found is None or found.name != ACCURACY or not scores.samples:
        return None
    n, p, z = scores.samples, found.value, 1.959964
    centre, reach = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - reach) / (1 + z * z / n), (centre + reach) / (1 + z * z / n)


def least_covered(steps: Sequence[StepMetrics]) -> float:
    """By an axis of the task's metric; 0 of a metric that is no share."""
    found = steps[0].validation.headline
    return LEAST_SHARE if found is not None and (found.rate or found.name == COSINE) else 0.0


def loss_curve(epochs: Sequence[EpochLoss]) -> tuple[tuple[float, float], ...]:
    """(epochs done, training loss) of a recovery: each loss at the end of the part that it is the mean of."""
    return tuple(point for epoch in epochs for point in loss_points(epoch.epoch, epoch.points or (epoch.train_loss,)))


def loss_points(epoch: int, points: Sequence[float], parts: int | None = None) -> tuple[tuple[float, float], ...]:
    """Of one epoch, of whose `parts` parts these are the first; without it, all."""
    of = len(points) if parts is None else parts
    return tuple((epoch - 1 + (number + 1) / of, loss) for number, loss in enumerate(points))


def noise_band(step: StepMetrics) -> tuple[float, float] | None:
    """What the original came to beside its own copy at this step, at the batch size where that was furthest off. Not at step 0:
    no step is judged by it."""
    found = [row.paired for row in step.latency if row.paired is not None and step.step]
    return (min(each.noise_low for each in found), max(each.noise_high for each in found)) if found else None


def goal(step: StepMetrics) -> tuple[float, float | None]:
    """What the step should have removed and what it has, as shares in the target's own unit.

    The latter is None for a latency that the machine's noise covers.
    """
    return step.requested_sparsity if step.target is None else step.target.requested, speed.achieved(step)
