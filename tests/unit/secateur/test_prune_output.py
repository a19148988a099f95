"""What `secateur prune` says at its end: where the checkpoint is, and why the job ended there."""

from pathlib import Path

import pytest
from rich.console import Console

from api_schemas.enums import ExportFormat, StopReason
from api_schemas.results.metrics import ExportMetrics, JobResult, Latency, Scores
from secateur.prune import say_result
from secateur.terminal.metrics import exports_table, steps_table, with_test
from tests.support.jobs.records import step_metrics

TEST = Scores(samples=10, cross_entropy=0.5, accuracy=0.777)


def said(result: JobResult | None, last: int = 3) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        say_result(result, Path("out"), last, console)
    return captured.get()


def stopped(step: int) -> JobResult:
    return JobResult(step=step, stopped=StopReason.MAX_DROP, detail="It fell [too] far.", test=TEST)


def test_a_job_that_reached_its_target_names_its_last_step() -> None:
    for result in (None, JobResult(step=3, stopped=None, detail="All 3 steps completed.", test=TEST)):
        assert said(result).startswith("Done. The pruned checkpoint is in out/step-3; open out/step-3/report.html")


def test_a_stopped_job_names_its_result_and_the_newest_report() -> None:
    text = said(stopped(2))
    assert text.startswith("Stopped. It fell [too] far.")
    assert "The pruned checkpoint is in out/step-2; open out/step-3/report.html" in text


def test_a_job_without_a_step_within_its_bound_names_no_checkpoint() -> None:
    text = said(stopped(0), last=1)
    assert "checkpoint is" not in text
    assert "Every step is kept, for example out/step-1" in text


@pytest.mark.parametrize(
    ("attention", "neurons", "shown"),
    [
        (0.1, 0.0, {"attention removed": "30.0%"}),
        (0.1, 0.05, {"attention removed": "30.0%", "feed-forward removed": "15.0%"}),
        (0.0, 0.05, {"feed-forward removed": "15.0%"}),
    ],
)
def test_the_table_shows_what_was_removed_of_each_part(attention: float, neurons: float, shown: dict[str, str]) -> None:
    steps = [
        step_metrics(number).model_copy(
            update={"achieved_sparsity": attention * number, "ffn_sparsity": neurons * number}
        )
        for number in range(4)
    ]
    columns = {str(column.header): list(column.cells) for column in steps_table(steps).columns}
    assert {name: cells[-1] for name, cells in columns.items() if name.endswith("removed")} == shown
    assert len({len(cells) for cells in columns.values()}) == 1


@pytest.mark.parametrize("step", [0, 2])
def test_the_results_test_scores_are_in_its_row(step: int) -> None:
    steps = [step_metrics(number) for number in range(4)]
    table = steps_table(with_test(steps, stopped(step)))
    (column,) = [column for column in table.columns if column.header == "test"]
    assert list(column.cells) == ["77.7%" if number == step else "" for number in range(4)]


def test_a_row_an_export_beside_the_cut_model() -> None:
    timed = Latency(
        batch_size=1, runs=5, p50_ms=2.5, p95_ms=3, throughput=400, dense_p50_ms=5, dense_p95_ms=6, speedup=2.0
    )
    rows = [
        ExportMetrics(
            format=format,
            file=f"{format.value}/model.safetensors",
            file_bytes=1_234_000,
            samples=10,
            max_abs_error=0.1,
            agreement=0.984,
            scores=TEST,
            latency=latency,
        )
        for format, latency in ((ExportFormat.TORCHAO_INT8, (timed,)), (ExportFormat.TORCHAO_INT8_WEIGHTS, ()))
    ]
    columns = {str(column.header): list(column.cells) for column in exports_table(rows).columns}
    assert columns == {
        "export": ["torchao_int8", "torchao_int8_weights"],
        "file": ["1.23 MB"] * 2,
        "same answers": ["98.4%"] * 2,
        "validation": ["77.7%"] * 2,
        "p50 ms": ["2.50", ""],
        "speed-up": ["2.00×", "–"],
    }
