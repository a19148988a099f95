"""The benchmark of sharing: what it asks for, the rows it takes, and the page of it."""

import argparse
from pathlib import Path

from pyarrow import parquet

from api_schemas.spec.sweep import METHODS
from benchmarks.sweep import Spent, page, some_rows, spec_of
from tests.support.checkpoints.tiny import some_data


def test_every_method_is_one_cut_without_recovery() -> None:
    specs = [spec_of(pruning, 0.5, sensitivity=False) for _, pruning in METHODS["paper"]]
    assert {(spec.pruning.steps, spec.finetune, spec.evaluate.sensitivity_samples) for spec in specs} == {
        (1, None, None)
    }
    assert len({(spec.pruning.granularity, spec.pruning.criterion, spec.pruning.scope) for spec in specs}) == 12


def test_every_so_manieth_row_is_taken(tmp_path: Path) -> None:
    folder = some_rows(some_data(), tmp_path / "rows", 3)
    for shard in some_data().iterdir():
        whole, taken = (parquet.read_table(each / shard.name) for each in (some_data(), folder))
        assert taken.equals(whole.take(list(range(0, len(whole), 3))))


def test_the_page_says_what_share_the_sweep_takes() -> None:
    jobs, sweep = Spent(), Spent()
    jobs.phases |= {"preparing": 30.0, "evaluating": 10.0}
    sweep.phases |= {"preparing": 2.5, "evaluating": 10.0}
    arguments = argparse.Namespace(sparsity=0.5, every=8, sensitivity=True, about="a model and data", threads=1)
    text = page(arguments, jobs, sweep)
    assert "--sparsity 0.5 --every 8 --sensitivity`, a model and data, 1 thread." in text
    assert "| preparing | 30.0 | 2.5 |" in text
    assert "The sweep takes 31% of the twelve jobs' time; the goal was 33%." in text
