"""Steps of one or several jobs as one table: what is gone, what it cost, what it gave."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from api_schemas.metrics import StepMetrics
from api_schemas.resources import JobResource
from secateur.tables import count, percent, with_test
from secateur.terminal.words import named, size


def comparison(jobs: Sequence[JobResource]) -> Table:
    """A row a step, the steps of all jobs with the same number together; `*` marks the result of each."""
    steps = [(job, step, dense) for job in jobs for step, dense in _steps(job)]
    neurons = any(step.ffn_sparsity for _, step, _ in steps)
    tested = any(step.test for _, step, _ in steps)
    metric = {found.name for _, step, _ in steps if (found := step.validation.headline)}
    table = Table("step", *(["job"] if len(jobs) > 1 else []), box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("attn. gone", justify="right")
    for name, shown in (("FFN gone", neurons), (metric.pop() if len(metric) == 1 else "metric", True), ("drop", True)):
        if shown:
            table.add_column(name, justify="right")
    for name in (*(["test"] if tested else []), "params", "FLOPs", "bytes", "speed-up"):
        table.add_column(name, justify="right", no_wrap=True)
    for job, step, dense in sorted(steps, key=lambda row: (row[1].step, jobs.index(row[0]))):
        chosen = job.result is not None and job.result.step == step.step
        table.add_row(
            f"{step.step}{'*' if chosen else ''}",
            *([named(job)] if len(jobs) > 1 else []),
            percent(step.achieved_sparsity),
            *([percent(step.ffn_sparsity)] if neurons else []),
            found.text if (found := step.validation.headline) else "",
            drop_text(step, dense),
            *([found.text if step.test and (found := step.test.headline) else ""] if tested else []),
            count(step.size.total_parameters),
            count(step.size.flops),
            size(step.size.file_bytes),
            f"{step.latency[0].speedup:.2f}×" if step.latency else "",
            style="bold" if chosen else None,
        )
    return table


def comparison_document(jobs: Sequence[JobResource]) -> list[dict[str, Any]]:
    """The same for programs: an object a job."""
    return [
        {
            "job": job.id,
            "name": job.name,
            "state": job.state,
            "result_step": job.result.step if job.result else None,
            "steps": [_step_document(step, dense) for step, dense in _steps(job)],
        }
        for job in jobs
    ]


def drop(step: StepMetrics, dense: StepMetrics) -> float | None:
    """How far the task's metric on validation is below the original's; negative where it is better."""
    before, now = dense.validation.metric, step.validation.metric
    return None if before is None or now is None or step is dense else before - now


def drop_text(step: StepMetrics, dense: StepMetrics) -> str:
    """In points where the metric is a rate."""
    fallen, found = drop(step, dense), step.validation.headline
    if fallen is None or found is None:
        return ""
    return f"{100 * fallen:+.1f}" if found.rate else f"{fallen:+.4f}"


def _steps(job: JobResource) -> Iterator[tuple[StepMetrics, StepMetrics]]:
    """Every step with the original beside it."""
    steps = with_test(job.metrics, job.result) if job.result is not None else list(job.metrics)
    return ((step, steps[0]) for step in steps)


def _step_document(step: StepMetrics, dense: StepMetrics) -> dict[str, Any]:
    found, test = step.validation.headline, step.test.headline if step.test else None
    return {
        "step": step.step,
        "attention_sparsity": step.achieved_sparsity,
        "ffn_sparsity": step.ffn_sparsity,
        "metric": None if found is None else found._asdict(),
        "drop": drop(step, dense),
        "test": None if test is None else test._asdict(),
        "parameters": step.size.total_parameters,
        "flops": step.size.flops,
        "bytes": step.size.file_bytes,
        "speedup": step.latency[0].speedup if step.latency else None,
    }
