"""The before/after table of the demo: on the terminal, as markdown and as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from api_schemas.results import speed
from api_schemas.results.metrics import StepMetrics
from secateur.terminal.metrics import count, quality


@dataclass(frozen=True)
class Outcome:
    """A model as the job measured it, and as a fresh process with stock transformers scored it from disk."""

    title: str
    metrics: StepMetrics
    fresh: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON has it; `of` reads it."""
        return {**asdict(self), "metrics": self.metrics.model_dump(mode="json")}

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Outcome":
        """What `document` wrote."""
        return cls(document["title"], StepMetrics.model_validate(document["metrics"]), document["fresh"])


def rows(outcomes: list[Outcome]) -> list[list[str]]:
    """One row a quantity, one column a model; the first column names the quantity."""

    def row(title: str, cells: list[str]) -> list[str]:
        return [title, *cells]

    steps = [outcome.metrics for outcome in outcomes]
    dense = steps[0].size
    table = [
        row("attention removed", [f"{step.achieved_sparsity:.1%}" for step in steps]),
        row("accuracy, whole test split, by the job", [quality(step.test) for step in steps]),
        row(
            f"accuracy, fresh process, stock transformers, {outcomes[0].fresh['samples']} test clips",
            [f"{outcome.fresh['accuracy']:.1%}" for outcome in outcomes],
        ),
        row("attention parameters", [_share(s.size.attention_parameters, dense.attention_parameters) for s in steps]),
        row("total parameters", [_share(step.size.total_parameters, dense.total_parameters) for step in steps]),
        row("FLOPs per clip", [_share(step.size.flops, dense.flops) for step in steps]),
        row("file", [f"{step.size.file_bytes / 1e6:.2f} MB" for step in steps]),
    ]
    for index, first in enumerate(steps[0].latency):
        # Dense and pruned are timed in turn at the last step: two moments of a busy machine would not compare.
        dense_timed = steps[1].latency[index]
        cells = [f"{dense_timed.dense_p50_ms:.2f} / {dense_timed.dense_p95_ms:.2f} ms"]
        for step in steps[1:]:
            timed = step.latency[index]
            cells.append(f"{timed.p50_ms:.2f} / {timed.p95_ms:.2f} ms")
        table.append(row(f"latency p50 / p95, batch {first.batch_size}", cells))
        written = [speed.written(step, step.latency[index]) for step in steps]
        table.append(row(f"speed-up, timed in turn, batch {first.batch_size}", written))
    return table


def _share(number: int, of: int) -> str:
    return count(number) if number == of else f"{count(number)} ({number / of - 1:+.0%})"


def show(outcomes: list[Outcome], console: Console) -> None:
    """On the terminal."""
    table = Table("", *(outcome.title for outcome in outcomes))
    for cells in rows(outcomes):
        table.add_row(*cells)
    console.print(table)


def save(outcomes: list[Outcome], about: dict[str, Any], folder: Path) -> None:
    """`result.json` (everything) and `result.md` (the table)."""
    folder.mkdir(exist_ok=True)
    models = [outcome.document() for outcome in outcomes]
    (folder / "result.json").write_text(json.dumps({**about, "models": models}, indent=2) + "\n")
    header = ["", *(outcome.title for outcome in outcomes)]
    lines = [header, ["---"] * len(header), *rows(outcomes)]
    (folder / "result.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
