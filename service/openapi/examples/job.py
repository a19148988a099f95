"""A job as a poller sees it in its second step, for the documentation. Built from the models, so it cannot go stale."""

from datetime import UTC, datetime

from api_schemas.api.resources import JobProgress, JobResource
from api_schemas.enums import JobState, Phase, SpeedVerdict
from api_schemas.results.metrics import (
    DataSummary,
    EpochLoss,
    Latency,
    PairedSpeedup,
    Scores,
    Size,
    StepMetrics,
    UnfinishedEpoch,
)
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import JobRequest
from service.openapi.examples.requests import JOB_EXAMPLES

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
_DENSE = AttentionWidths.dense(layers=2, heads=3, head_dim=32)
_CUT = AttentionWidths.of(32, [([32, 32, 32], [32, 32, 32]), ([32, 32], [32, 32])])


def _latency(milliseconds: float) -> Latency:
    return Latency(
        batch_size=1, runs=30, p50_ms=milliseconds, p95_ms=milliseconds * 1.2, throughput=1000 / milliseconds,
        dense_p50_ms=2.0, dense_p95_ms=2.4, speedup=2.0 / milliseconds,
        paired=PairedSpeedup(
            ratio=2.0 / milliseconds, low=1.97 / milliseconds, high=2.03 / milliseconds, noise_low=0.985, noise_high=1.015,
            verdict=SpeedVerdict.FASTER if milliseconds < 1.9 else SpeedVerdict.NOT_MEASURABLE,
        ),
    )  # fmt: skip


_ORIGINAL = StepMetrics(
    step=0,
    requested_sparsity=0.0,
    achieved_sparsity=0.0,
    widths=_DENSE,
    size=Size(attention_parameters=74_496, total_parameters=224_872, flops=27_800_000, file_bytes=905_440),
    validation=Scores(samples=2400, cross_entropy=0.389, accuracy=0.894),
    test=Scores(samples=2400, cross_entropy=0.320, accuracy=0.918),
    latency=(_latency(2.0),),
    stock_layout=True,
    seconds={"evaluating": 22.4},
)
FIRST_STEP = StepMetrics(
    step=1,
    requested_sparsity=0.1,
    achieved_sparsity=0.166,
    widths=_CUT,
    size=Size(attention_parameters=62_112, total_parameters=212_488, flops=25_300_000, file_bytes=855_904),
    validation=Scores(samples=2400, cross_entropy=0.380, accuracy=0.892),
    validation_before_recovery=Scores(samples=2400, cross_entropy=0.401, accuracy=0.887),
    latency=(_latency(1.8),),
    losses=(EpochLoss(epoch=1, train_loss=0.214, learning_rate=1e-5, points=(0.253, 0.208, 0.181)),),
    lora_ranks={"audio_spectrogram_transformer.layers.0.attention.q_proj": 16},
    calibration_samples=2400,
    reload_max_abs_error=0.0,
    seconds={"scoring": 26.1, "finetuning": 236.2, "evaluating": 21.9, "packaging": 4.5},
)

JOB = JobResource(
    id="job_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    name=None,
    state=JobState.RUNNING,
    created_at=NOON,
    started_at=NOON.replace(second=2),
    finished_at=None,
    request=JobRequest.model_validate(JOB_EXAMPLES["least"]["value"]),
    attempts=1,
    progress=JobProgress(
        phase=Phase.FINETUNING,
        step=2,
        steps=5,
        done=320,
        total=675,
        fraction=0.31,
        eta_seconds=811.0,
        training=UnfinishedEpoch(epoch=2, epochs=3, parts=3, points=(0.177,)),
    ),
    data=DataSummary(samples={"train": 7200, "validation": 2400, "test": 2400}, labels=("no", "yes")),
    metrics=(_ORIGINAL, FIRST_STEP),
    result=None,
    error=None,
)
