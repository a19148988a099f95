"""Steps of one or several jobs as one table: what was removed, lost and gained."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from api_schemas.api.resources import JobResource
from api_schemas.results import speed
from api_schemas.results.metrics import Scores, StepMetrics
from secateur.documents import ComparedJob, ComparedMetric, ComparedStep
from secateur.terminal.formatting import named, size
from secateur.terminal.metrics import count, percent, with_test
from secateur.terminal.tables import WIDE, Column, table

_Row = tuple[JobResource, StepMetrics, StepMetrics]


def comparison(jobs: Sequence[JobResource], width: int) -> Table:
    """A row a step, the steps of all jobs with the same number together; `*` marks the result of each. `width`: of the terminal.

    `gain` is in points of the metric on validation against the original, positive where the step is better.
    """
    steps = [(job, step, dense) for job in jobs for step, dense in _steps(job)]
    steps.sort(key=lambda row: (row[1].step, jobs.index(row[0])))
    neurons = any(step.ffn_sparsity for _, step, _ in steps)
    names = {found.name for _, step, _ in steps if (found := step.validation.headline)}
    metric = names.pop() if len(names) == 1 else "metric"
    columns: list[Column[_Row]] = [Column("step", lambda row: f"{row[1].step}{'*' if _chosen(row[0], row[1]) else ''}")]
    if len(jobs) > 1:
        columns.append(Column("job", lambda row: named(row[0]), longest=14))
    columns.append(
        Column(
            "removed, attention" if neurons else "removed", lambda row: percent(row[1].achieved_sparsity), right=True
        )
    )
    if neurons:
        columns.append(Column("removed, FFN", lambda row: percent(row[1].ffn_sparsity), right=True))
    quality = f"{metric}, validation"
    below = quality if len(jobs) > 1 else None
    columns += [
        Column(quality, lambda row: _written(row[1].validation), right=True, wraps=True),
        Column("gain", lambda row: gain_text(row[1], row[2]), right=True),
    ]
    if any(step.test for _, step, _ in steps):
        columns.append(
            Column(f"{metric}, test", lambda row: _written(row[1].test), below=below, right=True, wraps=True)
        )
    columns += [
        Column("params", lambda row: count(row[1].size.total_parameters), right=True),
        Column("FLOPs", lambda row: count(row[1].size.flops), below="params", right=True),
        Column("file", lambda row: size(row[1].size.file_bytes), below="params", right=True),
        Column(
            "speed-up", lambda row: _speed(row[1], width), right=True, wraps=True, longest=None if width >= 120 else 10
        ),
    ]
    return table(columns, steps, width, bold=lambda row: _chosen(row[0], row[1]))


def _speed(step: StepMetrics, width: int) -> str:
    found = speed.speed(step.latency[0]) if step.latency and step.step else None
    return "" if found is None else found.text if width >= WIDE + 20 else found.headline


def comparison_document(jobs: Sequence[JobResource]) -> list[ComparedJob]:
    """The same for programs."""
    return [
        ComparedJob(
            job=job.id,
            name=job.name,
            state=job.state,
            result_step=job.result.step if job.result else None,
            steps=tuple(_step_document(step, dense) for step, dense in _steps(job)),
        )
        for job in jobs
    ]


def drop(step: StepMetrics, dense: StepMetrics) -> float | None:
    """How far the task's metric on validation is below the original's; negative where it is better."""
    before, now = dense.validation.metric, step.validation.metric
    return None if before is None or now is None or step is dense else before - now


def gain_text(step: StepMetrics, dense: StepMetrics) -> str:
    """How much better than the original, in points: `+0.8`; `−0.8` is a loss. Of what is no rate, in its own unit."""
    fallen, found = drop(step, dense), step.validation.headline
    if fallen is None or found is None:
        return ""
    gained = round(-100 * fallen, 1) if found.rate else round(-fallen, 4)
    return f"{gained or 0.0:+.{1 if found.rate else 4}f}".replace("-", "−")


def _chosen(job: JobResource, step: StepMetrics) -> bool:
    return job.result is not None and job.result.step == step.step


def _written(scores: Scores | None) -> str:
    return found.text if scores is not None and (found := scores.headline) else ""


def _steps(job: JobResource) -> Iterator[tuple[StepMetrics, StepMetrics]]:
    """Every step with the original beside it."""
    steps = with_test(job.metrics, job.result) if job.result is not None else list(job.metrics)
    return ((step, steps[0]) for step in steps)


def _step_document(step: StepMetrics, dense: StepMetrics) -> ComparedStep:
    return ComparedStep(
        step=step.step,
        attention_sparsity=step.achieved_sparsity,
        ffn_sparsity=step.ffn_sparsity,
        metric=_metric(step.validation),
        drop=drop(step, dense),
        test=_metric(step.test),
        parameters=step.size.total_parameters,
        flops=step.size.flops,
        bytes=step.size.file_bytes,
        speedup=step.latency[0].speedup if step.latency else None,
        speedup_paired=step.latency[0].paired if step.latency else None,
    )


def _metric(scores: Scores | None) -> ComparedMetric | None:
    found = scores.headline if scores else None
    return None if found is None else ComparedMetric(**found._asdict())
