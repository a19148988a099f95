"""Data that no service has looked over, as of the hub: the engine judges it by the rules of an upload, before it computes."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import DataReady, EngineEvent
from api_schemas.results.metrics import DataSummary
from tests.support.jobs.engine import run_job
from tests.support.uploads import shard, tone

TWO = ["faro", "fora"] * 6


class StopError(Exception):
    """The data is ready, and more is not wanted."""


def prepared(folder: Path, **splits: Sequence[str]) -> DataSummary:
    """What the engine says of data with these labels, no two of whose clips are alike."""
    data = folder / "data"
    data.mkdir()
    for place, (name, labels) in enumerate(splits.items()):
        clips = [tone(200.0 + 100 * place + row) for row in range(len(labels))]
        (data / f"{name}.parquet").write_bytes(shard(clips, labels))
    said: list[DataSummary] = []

    def hear(event: EngineEvent) -> None:
        if isinstance(event, DataReady):
            said.append(event.data)
            raise StopError

    with pytest.raises(StopError):
        run_job(folder / "out", {"pruning": {"target": {"attention_sparsity": 0.5}}}, data=data, hear=hear)
    return said[0]


@pytest.mark.parametrize(
    ("role", "labels", "code"),
    [
        ("validation", TWO[:1], ErrorCode.DATASET_EMPTY),
        ("train", TWO[:1] * 5, ErrorCode.DATASET_SCHEMA),
        ("test", TWO[:1] * 5, ErrorCode.DATASET_SCHEMA),
    ],
)
def test_a_split_with_one_row_or_one_class_is_refused(
    tmp_path: Path, role: str, labels: list[str], code: ErrorCode
) -> None:
    splits = {"train": TWO, "validation": TWO, "test": TWO} | {role: labels}
    with pytest.raises(SecateurError) as refused:
        prepared(tmp_path, **splits)
    assert refused.value.code is code
    assert [item.pointer for item in refused.value.errors] == [f"/dataset/splits/{role}"]


def test_a_row_that_is_held_out_is_warned_of(tmp_path: Path) -> None:
    data = prepared(tmp_path, train=TWO)
    assert data.held_out == ("validation", "test")
    assert {(found.code, found.pointer) for found in data.warnings} >= {
        ("few_rows", "/dataset/splits/validation"),
        ("few_rows", "/dataset/splits/test"),
    }
