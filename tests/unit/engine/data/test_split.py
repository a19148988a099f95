"""Rows of different lengths: they never meet in a batch, none is lost, and what is drawn or taken is what it was."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.data.loader import BatchLoader
from worker.engine.data.split import FeatureSplit, Ragged, placed, rows

LENGTHS = [3, 1, 3, 2, 1, 3, 3]


def text(lengths: list[int]) -> FeatureSplit:
    """Row n holds n, n + 0.5 in a second column of features; a label a token."""
    ids = [np.full(length, row, np.int32) for row, length in enumerate(lengths)]
    features = [np.full((length, 2), row + 0.5, np.float16) for row, length in enumerate(lengths)]
    fixed = np.arange(len(lengths), dtype=np.float64)[:, None]
    inputs = {"input_ids": Ragged.of(ids), "features": Ragged.of(features), "fixed": fixed}
    return FeatureSplit(inputs, Ragged.of([np.arange(length) + row for row, length in enumerate(lengths)]))


def test_a_batch_has_the_rows_as_they_are_and_the_dtypes_of_models() -> None:
    inputs, targets = text(LENGTHS).batch([5, 0])
    assert inputs["input_ids"].tolist() == [[5, 5, 5], [0, 0, 0]]
    assert inputs["features"][:, 0].tolist() == [[5.5, 5.5], [0.5, 0.5]]
    assert targets.tolist() == [[5, 6, 7], [0, 1, 2]]
    assert (inputs["input_ids"].dtype, targets.dtype) == (torch.int64, torch.int64)
    assert inputs["features"].dtype == inputs["fixed"].dtype == torch.float32
    assert rows(inputs) == 2
    on = placed(inputs, torch.device("cpu"), torch.float64)
    assert (on["features"].dtype, on["input_ids"].dtype) == (torch.float64, torch.int64)


def test_lengths_do_not_mix() -> None:
    split = text(LENGTHS)
    with pytest.raises(ValueError, match="different lengths"):
        split.batch([0, 1])
    assert split.length_buckets.tolist() == [2, 0, 2, 1, 0, 2, 2]


def test_shorter_labels_are_filled_up_and_are_no_kind_of_their_own() -> None:
    labels = Ragged.of([np.arange(length) for length in LENGTHS])
    split = FeatureSplit({"input_values": np.zeros((7, 4))}, labels)
    _, targets = split.batch([0, 1, 3])
    assert targets.tolist() == [[0, 1, 2], [0, -100, -100], [0, 1, -100]]
    assert split.all_targets()[[0, 1, 3]].tolist() == targets.tolist()
    assert not split.length_buckets.any()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_batches_hold_every_row_once_and_in_order(lengths: list[int], size: int, seed: int) -> None:
    split = text(lengths)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    batches = split.batches(size, order)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(split)))
    first = [int(place[batch[0]]) for batch in batches]
    assert first == sorted(first)
    counts = {kind: int((split.length_buckets == kind).sum()) for kind in split.length_buckets.tolist()}
    assert len(batches) == sum(-(-count // size) for count in counts.values())
    for batch in batches:
        assert place[batch].tolist() == sorted(place[batch].tolist())
        assert len({lengths[row] for row in batch.tolist()}) == 1
        assert len(batch) <= size


@pytest.mark.parametrize("size", [4, 5, 100])
def test_rows_of_one_kind_are_simply_divided(size: int) -> None:
    split = FeatureSplit({"input_values": np.zeros((23, 2))}, torch.arange(23))
    order = torch.randperm(23)
    for found, whole in ((split.batches(size), torch.arange(23)), (split.batches(size, order), order)):
        assert [batch.tolist() for batch in found] == [part.tolist() for part in torch.split(whole, size)]


def test_a_feed_gives_batches_of_different_lengths() -> None:
    split = text(LENGTHS)
    order = split.batches(2)
    found = [inputs["input_ids"].tolist() for inputs, _ in BatchLoader(split, torch.device("cpu")).batches(order)]
    assert found == [[[0] * 3, [2] * 3], [[1], [4]], [[3] * 2], [[5] * 3, [6] * 3]]


def test_a_subset_is_a_split_of_its_own() -> None:
    split = text(LENGTHS)
    taken = split.subset([6, 3])
    assert taken.batch([0])[0]["input_ids"].tolist() == [[6, 6, 6]]
    assert taken.batch([1])[1].tolist() == [[3, 4]]
    taken.inputs["input_ids"].values[:] = 9  # type: ignore[union-attr]
    assert split.batch([6])[0]["input_ids"].tolist() == [[6, 6, 6]]
    assert len(split.subset([])) == 0
    assert len(split.subset([]).batches(3)) == 0
    drawn = split.random_subset(3, seed=1)
    assert len(drawn) == 3
    assert drawn.batches(1)[0].tolist() == [0]


def test_the_middle_length_stands_for_the_split() -> None:
    assert text(LENGTHS).middle().tolist() == [0, 2, 5, 6]
    assert text([1, 1, 1, 2, 9]).middle().tolist() == [0, 1, 2]


def test_columns_have_as_many_rows_as_there_are_targets() -> None:
    with pytest.raises(ValueError, match="3 rows of input_ids, but 2 targets"):
        FeatureSplit({"input_ids": np.zeros((3, 2))}, torch.zeros(2))
    with pytest.raises(ValueError, match="the rows end at"):
        Ragged(np.zeros(3), np.array([0, 2]))
