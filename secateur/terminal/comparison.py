"""Steps of one or several jobs as one table: what is gone, what it cost, what it gave."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table

from api_schemas.api.resources import JobResource
from api_schemas.results import speed
from api_schemas.results.metrics import Scores, StepMetrics
from secateur.terminal.formatting import named, size
from secateur.terminal.metrics import count, percent, with_test

_NEVER = 10**6
_SPEED = "speed-up"


def comparison(jobs: Sequence[JobResource], width: int) -> Table:
    """A row a step, the steps of all jobs with the same number together; `*` marks the result of each. `width`: of the terminal;
    what does not fit is left out, the least needed first."""
    steps = [(job, step, dense) for job in jobs for step, dense in _steps(job)]
    neurons = any(step.ffn_sparsity for _, step, _ in steps)
    names = {found.name for _, step, _ in steps if (found := step.validation.headline)}
    metric = names.pop() if len(names) == 1 else "metric"
    columns: list[tuple[str, int, Callable[[JobResource, StepMetrics, StepMetrics], str]]] = [
        ("step", 0, lambda job, step, _: f"{step.step}{'*' if _chosen(job, step) else ''}"),
        ("job", 0 if len(jobs) > 1 else _NEVER, lambda job, *_: named(job)),
        ("attn. gone" if neurons else "gone", 0, lambda _, step, __: percent(step.achieved_sparsity)),
        ("FFN gone", 60 if neurons else _NEVER, lambda _, step, __: percent(step.ffn_sparsity)),
        (metric, 0, lambda _, step, __: _written(step.validation)),
        ("drop", 44, lambda _, step, dense: drop_text(step, dense)),
        ("test", 90 if any(step.test for _, step, _ in steps) else _NEVER, lambda _, step, __: _written(step.test)),
        ("params", 50, lambda _, step, __: count(step.size.total_parameters)),
        ("FLOPs", 70, lambda _, step, __: count(step.size.flops)),
        ("bytes", 60, lambda _, step, __: size(step.size.file_bytes)),
        (_SPEED, 80, lambda _, step, __: speed.speed(step.latency[0]).text if step.latency and step.step else ""),
    ]
    shown = [column for column in columns if width >= column[1]]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, _, _ in shown:
        left, words = name in ("step", "job"), name == _SPEED
        table.add_column(
            name, justify="left" if left else "right", no_wrap=not words, overflow="ellipsis",
            max_width=14 if left or (words and width < 120) else None,
        )  # fmt: skip
    for job, step, dense in sorted(steps, key=lambda row: (row[1].step, jobs.index(row[0]))):
        cells = (cell(job, step, dense) for _, _, cell in shown)
        table.add_row(*cells, style="bold" if _chosen(job, step) else None)
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
    """In points where the metric is a rate: `0.8`, or `gain 0.8` of what is better than the original."""
    fallen, found = drop(step, dense), step.validation.headline
    if fallen is None or found is None:
        return ""
    amount = f"{100 * abs(fallen):.1f}" if found.rate else f"{abs(fallen):.4f}"
    return f"gain {amount}" if fallen < 0 and float(amount) else amount


def _chosen(job: JobResource, step: StepMetrics) -> bool:
    return job.result is not None and job.result.step == step.step


def _written(scores: Scores | None) -> str:
    return found.text if scores is not None and (found := scores.headline) else ""


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
        "speedup_paired": paired.model_dump(mode="json")
        if step.latency and (paired := step.latency[0].paired)
        else None,
    }
