"""Rows of different lengths: they meet in a batch only where they are filled up and masked, none is lost, and what is drawn or
taken is what it was.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.families.base import Padding
from worker.engine.data import split as splitting
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


PADDING = Padding({"input_ids": 9.0, "features": -1.0}, "attention_mask", 8)


def test_shorter_rows_are_filled_up_and_masked() -> None:
    split = text(LENGTHS).padded(PADDING)
    inputs, targets = split.batch([1, 0, 3])
    assert inputs["input_ids"].tolist() == [[1, 9, 9], [0, 0, 0], [3, 3, 9]]
    assert inputs["features"][..., 1].tolist() == [[1.5, -1, -1], [0.5] * 3, [3.5, 3.5, -1]]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert targets.tolist() == [[1, -100, -100], [0, 1, 2], [3, 4, -100]]
    # Where nothing is filled up nothing is masked: it is the batch that it was.
    assert "attention_mask" not in split.batch([0, 2])[0]
    assert split.padded(None).batch([0, 2])[0].keys() == inputs.keys() - {"attention_mask"}


LENGTH_LISTS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def check_pass(lengths: list[int], numbers: list[int], size: int, padding: Padding | None) -> None:
    own = [lengths[row] for row in numbers]
    assert len(own) <= size
    if padding is None:
        assert len(set(own)) == 1
    else:
        assert len(own) == 1 or len(own) * max(own) <= size * padding.usual
        # It is not worth another pass: no cut saves more than that costs.
        own.sort(reverse=True)
        saved = [(own[0] - own[place]) * (len(own) - place) for place in range(len(own))]
        assert max(saved) <= padding.usual * splitting.PASS_COSTS["cpu"]


@given(
    LENGTH_LISTS, st.integers(1, 8), st.integers(0, 9), st.sampled_from([None, PADDING]), st.sampled_from([None, 1, 3])
)
@settings(deadline=None, max_examples=80)
def test_steps_are_equally_large_and_their_passes_of_like_lengths(
    lengths: list[int], size: int, seed: int, padding: Padding | None, most: int | None
) -> None:
    split = text(lengths).padded(padding)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    steps = split.steps(size, order, most)
    assert sorted(row for step in steps for numbers in step for row in numbers.tolist()) == list(range(len(split)))
    # As many as of rows of one length, whatever the order: what is left of a training is known before it begins.
    assert len(steps) == len(split.steps(size, torch.arange(len(split)))) == -(-len(split) // size)
    place = order.argsort()
    first = [min(int(place[numbers].min()) for numbers in step) for step in steps]
    assert first == sorted(first)
    if len(set(lengths)) == 1:
        assert [step[0].tolist() for step in steps] == [part.tolist() for part in torch.split(order, size)]
        return
    held = [sum(map(len, step)) for step in steps]
    assert max(held) - min(held) <= 1
    for step in steps:
        for numbers in step:
            check_pass(lengths, numbers.tolist(), most or size, padding)


def cheapest(lengths: list[int], overhead: float, room: int) -> float:
    """Of all divisions of the rows."""
    if not lengths:
        return 0.0
    ends = [end for end in range(1, len(lengths) + 1) if end == 1 or end * lengths[0] <= room]
    return min(overhead + end * lengths[0] + cheapest(lengths[end:], overhead, room) for end in ends)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(0, 60), st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_no_other_division_of_a_batch_costs_less(lengths: list[int], overhead: int, room: int) -> None:
    lengths.sort(reverse=True)
    parts = np.split(np.array(lengths), splitting._cuts(lengths, overhead, room))
    assert all(len(part) == 1 or len(part) * part[0] <= room for part in parts)
    assert sum(overhead + len(part) * part[0] for part in parts) == cheapest(lengths, overhead, room)


@given(LENGTH_LISTS, st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_passes_hold_every_row_once_in_few_batches_of_like_lengths(lengths: list[int], size: int) -> None:
    split = text(lengths)
    assert [part.tolist() for part in split.passes(size)] == [part.tolist() for part in split.batches(size)]
    passes = split.padded(PADDING).passes(size)
    assert sorted(torch.cat(passes).tolist()) == list(range(len(split)))
    if len(set(lengths)) > 1:
        for numbers in passes:
            check_pass(lengths, numbers.tolist(), size, PADDING)


def test_rows_are_sorted_in_runs_so_that_batches_of_epochs_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    split = text(random.integers(20, 60, 400).tolist()).padded(PADDING)
    monkeypatch.setattr(splitting, "LARGEST_RUN", 5)
    orders = [torch.from_numpy(random.permutation(400)) for _ in range(2)]
    one, two = ([sorted(torch.cat(step).tolist()) for step in split.steps(8, order)] for order in orders)
    assert not {tuple(step) for step in one} & {tuple(step) for step in two}
    spread = [np.ptp(split.lengths[step]) for step in one]
    # Forty rows of which eight are neighbours lie a fifth as far apart as eight of all.
    assert np.mean(spread) < 0.4 * 40
    assert split.steps(8, orders[0])[0][0].tolist() == split.steps(8, orders[0])[0][0].tolist()


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
