"""Metrics as rich tables and as short text; used by the command line and by the demo."""

from collections.abc import Sequence

from rich.table import Table

from api_schemas.results import speed
from api_schemas.results.metrics import ExportMetrics, JobResult, Scores, StepMetrics


def percent(share: float) -> str:
    """`0.912` as `91.2%`."""
    return f"{share:.1%}"


def count(number: float) -> str:
    """`2712345` as `2.71 M`; under ten thousand as it is."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= max(scale, 1e4):
            return f"{number / scale:.3g} {unit}"
    return f"{number:,.0f}"


def quality(scores: Scores | None) -> str:
    """The task's own metric: `91.8%`, and by name where it is not accuracy: `12.3% WER`."""
    found = None if scores is None else scores.headline
    if found is None:
        return ""
    return found.text if found.name == "accuracy" else f"{found.text} {found.name}"


def labelled(scores: Scores | None) -> str:
    """With the metric's name always: `accuracy 91.8%`, `WER 12.3%`."""
    found = None if scores is None else scores.headline
    return "" if found is None else f"{found.name} {found.text}"


def with_test(steps: Sequence[StepMetrics], result: JobResult) -> list[StepMetrics]:
    """The steps, with the result's test scores on its own step: where `stop` ended the job they came after it."""
    return [step.model_copy(update={"test": result.test}) if step.step == result.step else step for step in steps]


def steps_table(steps: Sequence[StepMetrics]) -> Table:
    """One row a step: how much is gone, what it cost in quality, what it gave in size and speed."""
    neurons = any(step.ffn_sparsity for step in steps)
    attention = not neurons or any(step.achieved_sparsity for step in steps)
    parts = [name for name, cut in (("attention", attention), ("feed-forward", neurons)) if cut]
    table = Table("step", *(f"{part} removed" for part in parts), box=None, pad_edge=False)
    trained = any(step.losses for step in steps)
    for name in (*(["before recovery"] if trained else []), "validation", "test"):
        table.add_column(name)
    for name in (*(f"{part} params" for part in parts), "all params", "FLOPs", "file", "p50 ms", "speed-up"):
        table.add_column(name, justify="right")
    for step in steps:
        first = step.latency[0] if step.latency else None
        table.add_row(
            str(step.step),
            *([percent(step.achieved_sparsity)] if attention else []),
            *([percent(step.ffn_sparsity)] if neurons else []),
            *([quality(step.validation_before_recovery)] if trained else []),
            quality(step.validation),
            quality(step.test),
            *([count(step.size.attention_parameters)] if attention else []),
            *([count(step.size.feed_forward_parameters)] if neurons else []),
            count(step.size.total_parameters),
            count(step.size.flops),
            f"{step.size.file_bytes / 1e6:.2f} MB",
            f"{first.p50_ms:.2f}" if first else "",
            speed.written(step, first),
        )
    return table


def exports_table(exports: Sequence[ExportMetrics]) -> Table:
    """One row an export, beside the cut model in torch on the same CPU."""
    table = Table("export", box=None, pad_edge=False)
    for name in ("file", "same answers", "validation", "p50 ms", "speed-up"):
        table.add_column(name, justify="right")
    for row in exports:
        first = row.latency[0] if row.latency else None
        table.add_row(
            row.format.value,
            f"{row.file_bytes / 1e6:.2f} MB",
            percent(row.agreement),
            quality(row.scores),
            f"{first.p50_ms:.2f}" if first else "",
            speed.speed(first).text if first else "–",
        )
    return table
