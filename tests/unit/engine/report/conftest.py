"""Step metrics written by hand: the report shows what it is given, so nothing needs to be trained to test it."""

from dataclasses import dataclass, replace

import pytest

from api_schemas.enums import ExportFormat, Granularity, StopReason, TargetKind
from api_schemas.results.metrics import (
    DataSummary,
    EpochLoss,
    ExportMetrics,
    JobResult,
    Latency,
    LayerSensitivity,
    Scores,
    Sensitivity,
    Size,
    StepMetrics,
    TargetMet,
)
from api_schemas.results.widths import AttentionWidths, LayerWidths
from api_schemas.spec.job import EngineSpec, Stop
from checkpoints.families.audio.ast import AST

ARCHITECTURE = AST.architectures["ASTForAudioClassification"]
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "yes | no\n| --- |",
    "[click](javascript:alert(1))",
    "![x](https://example.invalid/x.png)",
    "---\nlibrary_name: evil\n---",
    "{{ 7 * 7 }}",
    "`code` \u202e reversed \x00\x1b[31m",
    "https://example.invalid/",
)


@dataclass(frozen=True)
class Job:
    """Arguments of write_report and write_model_card, together."""

    steps: tuple[StepMetrics, ...]
    spec: EngineSpec
    data: DataSummary
    result: JobResult | None = None


def _scores(value: float, multi_label: bool, samples: int = 400) -> Scores:
    name = "mean_average_precision" if multi_label else "accuracy"
    return Scores.model_validate({"samples": samples, "cross_entropy": round(2.2 * (1 - value), 4), name: value})


def _latency(step: int, batch_size: int) -> Latency:
    dense, p50 = 8.0 * batch_size, 8.0 * batch_size / (1 + 0.12 * step)
    return Latency(
        batch_size=batch_size,
        runs=30,
        p50_ms=p50,
        p95_ms=p50 * 1.15,
        throughput=1000 * batch_size / p50,
        dense_p50_ms=dense,
        dense_p95_ms=dense * 1.15,
        speedup=dense / p50,
    )


def _widths(step: int, granularity: Granularity) -> AttentionWidths:
    """Four layers of six heads of 32; the later layers lose more."""
    if granularity is Granularity.ENTIRE_HEAD:
        heads = [max(1, 6 - (step * (layer + 2)) // 3) for layer in range(4)]
        return AttentionWidths(head_dim=32, layers=tuple(map(_last_heads, heads)))
    return AttentionWidths.of(
        32, (([32 - step * (2 + layer)] * 6, [32 - step * (5 - layer)] * 6) for layer in range(4))
    )


def _last_heads(count: int) -> LayerWidths:
    """Of six heads the last ones stay."""
    return LayerWidths(qk=(32,) * count, vo=(32,) * count, numbers=tuple(range(6 - count, 6)))


def make_job(
    *,
    multi_label: bool = False,
    granularity: Granularity = Granularity.ENTIRE_HEAD,
    labels: tuple[str, ...] = ("yes", "no", "stop"),
    steps: int = 3,
) -> Job:
    dense = _widths(0, granularity)
    total = sum(layer.qk_total + layer.vo_total for layer in dense.layers)
    rows = []
    for step in range(steps + 1):
        widths = _widths(step, granularity)
        kept = sum(layer.qk_total + layer.vo_total for layer in widths.layers) / total
        score = 0.93 - 0.012 * step**2
        attention = round(590_000 * kept)
        rows.append(
            StepMetrics(
                step=step,
                requested_sparsity=round(1 - kept, 1),
                achieved_sparsity=1 - kept,
                widths=widths,
                size=Size(
                    attention_parameters=attention,
                    total_parameters=attention + 1_240_000,
                    flops=round(230_000_000 + 110_000_000 * kept),
                    file_bytes=4 * (attention + 1_240_000) + 20_480,
                ),
                validation=_scores(score, multi_label),
                validation_before_recovery=_scores(score - 0.07 * step, multi_label) if step else None,
                test=_scores(score - 0.01, multi_label, 380) if step in (0, steps) else None,
                latency=(_latency(step, 1), _latency(step, 8)),
                losses=tuple(
                    EpochLoss(epoch=n, train_loss=0.5 / n + 0.1 * step, learning_rate=3e-4 / n) for n in (1, 2, 3)
                )
                if step
                else (),
                lora_ranks={"layers.0.attention.q_proj": 16, "layers.3.attention.o_proj": 8} if step else {},
                calibration_samples=400 if step else 0,
                reload_max_abs_error=3.1e-7 if step else None,
            )
        )
    spec = EngineSpec.model_validate(
        {
            "pruning": {
                "target": {"attention_sparsity": 0.5},
                "schedule": {"steps": steps},
                "granularity": granularity,
            },
            "lineage": {"model": f"folder {labels[0]}", "dataset": "recordings"},
        }
    )
    data = DataSummary(
        samples={"train": 1200, "validation": 400, "test": 380},
        held_out=("validation",),
        grouped_by=labels[-1] if len(labels) > 3 else "speaker",
        multi_label=multi_label,
        labels=labels,
    )
    return Job(steps=tuple(rows), spec=spec, data=data)


@pytest.fixture
def job() -> Job:
    return make_job()


def cutting_both(job: Job, target: dict[str, float], **changes: object) -> Job:
    """The same job, of which each step also took a tenth of the neurons: 10% less than the target asks where it asks for any."""
    steps = []
    for step in job.steps:
        neurons = tuple(1000 - 100 * step.step for _ in step.widths.layers)
        share = 0.1 * step.step
        update: dict[str, object] = {
            "widths": step.widths.model_copy(update={"feed_forward": neurons}),
            "size": step.size.model_copy(update={"feed_forward_parameters": round(880_000 * (1 - share))}),
            "ffn_sparsity": share,
        }
        own = TargetMet(kind=TargetKind.FFN_SPARSITY, requested=share / 0.9, achieved=share)
        if step.step and "ffn_sparsity" in target:
            update["ffn_target" if len(target) > 1 else "target"] = own
        if "attention_sparsity" not in target and "flops" not in target:
            update |= {"achieved_sparsity": 0.0, "requested_sparsity": 0.0}
        steps.append(step.model_copy(update=update))
    spec = EngineSpec.model_validate({"pruning": {"target": target, "schedule": {"steps": 3}, **changes}})
    return replace(job, steps=tuple(steps), spec=spec)


@pytest.fixture
def analysed_job(job: Job) -> Job:
    """Before its first step every layer was cut alone; layer 1 costs most, layer 3 nothing."""
    layers = tuple(
        LayerSensitivity(
            layer=layer,
            removed=(1 / 6, 0.5, 5 / 6),
            metric=tuple(0.93 - cost * share for share in (0.1, 0.2, 0.4)),
            cross_entropy=tuple(0.154 + 2 * cost * share for share in (0.1, 0.2, 0.4)),
        )
        for layer, cost in enumerate((0.3, 1.0, 0.6, -0.05))
    )
    found = Sensitivity(
        samples=128, shares=(0.25, 0.5, 0.75), dense_metric=0.93, dense_cross_entropy=0.154, layers=layers
    )
    return replace(job, steps=(job.steps[0].model_copy(update={"sensitivity": found}), *job.steps[1:]))


@pytest.fixture
def stopped_job(job: Job) -> Job:
    """Its last step fell too far: the step before is the result, and has the test scores."""
    *before, chosen, last = job.steps
    steps = (*before, chosen.model_copy(update={"test": last.test}), last.model_copy(update={"test": None}))
    detail = "At step 3 accuracy on validation was 82.20%, 10.80 points below the original's; the result is step 2."
    result = JobResult(step=2, stopped=StopReason.MAX_DROP, detail=detail, test=last.test)
    spec = job.spec.model_copy(update={"stop": Stop(max_drop=0.05)})
    return replace(job, steps=steps, spec=spec, result=result)


@pytest.fixture
def exported_job(job: Job) -> Job:
    """Its last step was exported in every format."""
    last = job.steps[-1]
    exports = tuple(
        ExportMetrics(
            format=format,
            file=file,
            file_bytes=size,
            samples=256,
            max_abs_error=error,
            agreement=agreement,
            scores=_scores(score, False, 256),
            latency=(_latency(4, 1), _latency(4, 8)),
        )
        for format, file, size, error, agreement, score in (
            (ExportFormat.ONNX, "model.onnx", 7_350_000, 4.2e-6, 1.0, 0.822),
            (ExportFormat.ONNX_INT8, "model.int8.onnx", 1_910_000, 0.21, 0.9875, 0.811),
            (ExportFormat.TORCHAO_INT8, "torchao_int8/model.safetensors", 1_950_000, 0.19, 0.9836, 0.812),
            (
                ExportFormat.TORCHAO_INT8_WEIGHTS,
                "torchao_int8_weights/model.safetensors",
                1_930_000,
                0.12,
                0.9922,
                0.819,
            ),
        )
    )
    return replace(job, steps=(*job.steps[:-1], last.model_copy(update={"exports": exports})))


@pytest.fixture
def multi_label_job() -> Job:
    return make_job(multi_label=True, granularity=Granularity.PER_HEAD)


@pytest.fixture
def hostile_job() -> Job:
    return make_job(labels=HOSTILE)


def measured_by(job: Job, **scores: float | None) -> Job:
    """The same job on another task: every split of every step is scored by these."""

    def other(before: Scores | None) -> Scores | None:
        return None if before is None else Scores.model_validate({"samples": before.samples, **scores})

    splits = ("validation", "validation_before_recovery", "test")
    steps = (step.model_copy(update={split: other(getattr(step, split)) for split in splits}) for step in job.steps)
    return replace(job, steps=tuple(steps))
