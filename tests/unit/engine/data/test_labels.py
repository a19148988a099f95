"""Labels by name: ids, texts and lists, one or several a clip, and the mismatch with both lists."""

from typing import Any

import datasets
import pytest
import torch

from api_schemas.errors import ErrorCode, SecateurError
from worker.engine.data.labels import label_names, targets_of
from worker.engine.data.sources import Source

CHECKPOINT = ("yes", "no", "stop")


def source(values: list[Any], feature: Any, from_files: bool = False) -> Source:
    features = datasets.Features({"label": feature})
    rows = datasets.Dataset.from_dict({"label": values}, features=features)
    return Source(splits={"train": rows}, features=features, from_files=from_files)


def names(values: list[Any], feature: Any, from_files: bool = False) -> list[tuple[str, ...]]:
    return label_names(source(values, feature, from_files), "label", "train")


TEXT, IDS = datasets.Value("string"), datasets.ClassLabel(names=["stop", "yes"])


@pytest.mark.parametrize(
    ("values", "feature", "expected"),
    [
        (["no", "yes"], TEXT, [("no",), ("yes",)]),
        ([1, 0], IDS, [("yes",), ("stop",)]),
        ([["no", "yes"], []], datasets.List(TEXT), [("no", "yes"), ()]),
        ([[1, 0], [0]], datasets.List(IDS), [("yes", "stop"), ("stop",)]),
        ([[1], []], datasets.LargeList(IDS), [("yes",), ()]),
        ([1, -7], datasets.Value("int16"), [("1",), ("-7",)]),
        ([[1], []], datasets.List(datasets.Value("uint8")), [("1",), ()]),
    ],
)
def test_names_from_every_kind_of_column(values: list[Any], feature: Any, expected: list[tuple[str, ...]]) -> None:
    assert names(values, feature) == expected


@pytest.mark.parametrize(
    ("values", "feature", "place"),
    [
        (["no", None], TEXT, "train[1]"),
        (["no", ""], TEXT, "train[1]"),
        ([0, -1], IDS, "train[1]"),
        ([0.5], datasets.Value("float32"), "neither texts nor whole numbers"),
        ([True], datasets.Value("bool"), "neither texts nor whole numbers"),
    ],
)
def test_labels_that_name_nothing_are_refused(values: list[Any], feature: Any, place: str) -> None:
    with pytest.raises(SecateurError) as caught:
        names(values, feature)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert place in caught.value.detail


def test_a_number_in_a_metadata_file_is_its_text() -> None:
    assert names([7, 0], datasets.Value("int64"), from_files=True) == [("7",), ("0",)]


def test_targets_are_the_checkpoints_class_numbers() -> None:
    targets = targets_of({"train": [("no",), ("yes",)], "test": [("stop",)]}, CHECKPOINT, multi_label=False)
    assert targets["train"].tolist() == [1, 0]
    assert targets["test"].tolist() == [2]
    assert targets["train"].dtype == torch.int64


def test_several_labels_are_zeros_and_ones() -> None:
    targets = targets_of({"train": [("no", "yes"), (), ("stop",)]}, CHECKPOINT, multi_label=True)["train"]
    assert targets.dtype == torch.float32
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("row", [(), ("yes", "no")])
def test_a_checkpoint_of_one_label_refuses_other_numbers(row: tuple[str, ...]) -> None:
    with pytest.raises(SecateurError) as caught:
        targets_of({"train": [("yes",), row]}, CHECKPOINT, multi_label=False)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert "train[1]" in caught.value.detail


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_mismatch_is_refused_with_both_lists(multi_label: bool) -> None:
    with pytest.raises(SecateurError) as caught:
        targets_of({"train": [("yes",), ("Stop",)], "test": [("left",)]}, CHECKPOINT, multi_label)
    error = caught.value
    assert error.code is ErrorCode.LABELS_MISMATCH
    assert "Stop, left, yes" in error.detail
    assert "yes, no, stop" in error.detail
    assert {item.pointer: item.detail for item in error.errors} == {
        "/unknown": "Stop, left",
        "/dataset": "Stop, left, yes",
        "/checkpoint": "yes, no, stop",
    }


def test_a_name_of_several_classes_is_refused_where_the_data_has_it() -> None:
    labels = ("crane", "heron", "crane")
    assert targets_of({"train": [("heron",)]}, labels, multi_label=False)["train"].tolist() == [1]
    with pytest.raises(SecateurError) as caught:
        targets_of({"train": [("heron",), ("crane",)]}, labels, multi_label=False)
    assert caught.value.code is ErrorCode.LABELS_MISMATCH
    assert "'crane' is the name of the classes 0, 2" in caught.value.detail


@pytest.mark.parametrize(
    ("labels", "used", "expected"),
    [
        (CHECKPOINT, ["2", "0"], [2, 0]),
        (("1", "0"), ["1", "0"], [0, 1]),
        (("zero", "0", "two"), ["0"], [1]),
    ],
)
def test_numbers_of_classes_are_labels_where_no_class_is_called_so(
    labels: tuple[str, ...], used: list[str], expected: list[int]
) -> None:
    assert targets_of({"train": [(name,) for name in used]}, labels, False)["train"].tolist() == expected


@pytest.mark.parametrize("used", [["0", "3"], ["0", "yes"], ["00"], ["-1"], ["1.0"]])
def test_what_is_no_number_of_a_class_is_a_name(used: list[str]) -> None:
    with pytest.raises(SecateurError) as caught:
        targets_of({"train": [(name,) for name in used]}, CHECKPOINT, False)
    assert caught.value.code is ErrorCode.LABELS_MISMATCH
