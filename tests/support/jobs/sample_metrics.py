"""Measurements of a job as an engine would send them: a small model that loses heads, and what the page draws of it.

Batch 1 was timed in pairs, and at step 2 the machine was busy; batch 8 is as versions before paired ratios left it.
"""

from api_schemas.results.metrics import (
    EpochLoss,
    Latency,
    LayerSensitivity,
    PairedSpeedup,
    Scores,
    Sensitivity,
    Size,
    StepMetrics,
    TargetMet,
)
from api_schemas.results.widths import AttentionWidths, LayerWidths

LAYERS, HEADS, WIDTH = 2, 4, 8


def measured_step(step: int) -> StepMetrics:
    """Step 0 is the original; every later one takes the first head that is left of the second layer."""
    left = tuple(range(step, HEADS))
    full = LayerWidths(qk=(WIDTH,) * HEADS, vo=(WIDTH,) * HEADS)
    cut = LayerWidths(qk=(WIDTH,) * len(left), vo=(WIDTH,) * len(left), numbers=left)
    share = step / (LAYERS * HEADS)
    parameters = round(4000 * (1 - share))
    return StepMetrics(
        step=step,
        requested_sparsity=0.12 * step,
        achieved_sparsity=share,
        widths=AttentionWidths(head_dim=WIDTH, layers=(full, cut)),
        size=Size(
            attention_parameters=parameters, total_parameters=6000 + parameters, flops=30_000 + parameters,
            file_bytes=4 * (6000 + parameters) + 512,
        ),
        validation=_scores(0.95 - 0.02 * step),
        validation_before_recovery=_scores(0.93 - 0.05 * step) if step else None,
        test=_scores(0.94) if step == 0 else None,
        latency=tuple(_latency(size, 1 + 0.2 * step) for size in (1, 8)),
        target=TargetMet(kind="attention_sparsity", requested=0.12 * step, achieved=share) if step else None,
        losses=tuple(EpochLoss(epoch=n, train_loss=0.6 / n, learning_rate=3e-4) for n in (1, 2)) if step else (),
        stock_layout=False,
        sensitivity=None if step else _SENSITIVITY,
        seconds={"evaluating": 2.5},
    )  # fmt: skip


def _scores(accuracy: float) -> Scores:
    return Scores(samples=120, accuracy=accuracy, cross_entropy=2 * (1 - accuracy))


def _latency(batch_size: int, speedup: float) -> Latency:
    dense = 4.0 * batch_size
    return Latency(
        batch_size=batch_size, runs=30, p50_ms=dense / speedup, p95_ms=1.2 * dense / speedup, dense_p50_ms=dense,
        dense_p95_ms=1.2 * dense, throughput=1000 * batch_size * speedup / dense, speedup=speedup,
        paired=paired(speedup, 0.05 if speedup < 1.4 else 0.6) if batch_size == 1 else None,
    )  # fmt: skip


def paired(speedup: float, spread: float) -> PairedSpeedup:
    """A ratio whose interval, and that of the noise, goes so far up and down."""
    low, high = speedup * (1 - spread / 2), speedup * (1 + spread / 2)
    noise = 1 + spread / 2
    verdict = "faster" if low > noise else "slower" if high < 1 / noise else "not_measurable"
    return PairedSpeedup(ratio=speedup, low=low, high=high, noise_low=1 / noise, noise_high=noise, verdict=verdict)


_SENSITIVITY = Sensitivity(
    samples=64,
    shares=(0.25, 0.5),
    dense_metric=0.95,
    dense_cross_entropy=0.2,
    layers=(
        LayerSensitivity(layer=0, removed=(0.25, 0.5), metric=(0.9, 0.7), cross_entropy=(0.3, 0.9)),
        LayerSensitivity(layer=1, removed=(0.25, 0.5), metric=(0.95, 0.96), cross_entropy=(0.2, 0.19)),
    ),
)
