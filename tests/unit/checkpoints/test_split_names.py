"""Which split a file is of, by its name; and which role a split plays."""

from pathlib import Path

import pytest

from api_schemas.enums import Split
from api_schemas.spec.inputs import Splits
from checkpoints.data.layout import Files, find_layout
from checkpoints.data.split_names import name_splits, split_of


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.parquet", "train"),
        ("train-00000-of-00002.parquet", "train"),
        ("Train.parquet", "train"),
        ("TEST-0.parquet", "test"),
        ("train_00.parquet", "train"),
        ("Validation_00001_of_00002.parquet", "validation"),
        ("dev.3.parquet", "dev"),
        ("test.jsonl.gz", "test"),
        ("0000.parquet", "train"),
        ("part_7.parquet", "train"),
        ("validation_matched.parquet", "validation_matched"),
        ("fold_1.parquet", "fold_1"),
        ("Extra.parquet", "Extra"),
        ("train2.parquet", "train2"),
    ],
)
def test_the_split_of_a_file(file: str, split: str) -> None:
    assert split_of(file) == split


def test_a_split_may_be_named_as_its_file_is() -> None:
    available = [split_of("Train.parquet"), split_of("test_00.parquet"), "fold_1"]
    wanted = Splits(train="Train", test="test_00", validation="fold_1")
    assert name_splits(available, wanted) == {
        Split.TRAIN: "train",
        Split.VALIDATION: "fold_1",
        Split.TEST: "test",
    }


def test_folders_of_splits_with_capitals(tmp_path: Path) -> None:
    for name in ("Train/low/a.wav", "Train/high/b.wav", "Test/low/c.wav", "Test/high/d.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    layout = find_layout(tmp_path, Splits())
    assert layout.kind is Files.CLIPS
    assert {split: len(files) for split, files in layout.files.items()} == {"test": 2, "train": 2}
