"""Which calibration samples are taken where not all fit."""

import numpy as np
import torch

from worker.engine.data.split import FeatureSplit, Inputs, Ragged
from worker.engine.pruning.calibration import batches, rows_within

CPU = torch.device("cpu")
LABELS = torch.arange(40).repeat_interleave(10)
"""Sorted, as shards mostly are."""


def recordings() -> FeatureSplit:
    return FeatureSplit({"input_values": np.zeros((len(LABELS), 6, 2), np.float32)}, LABELS)


def tokens_in(inputs: Inputs) -> int:
    return len(next(iter(inputs.values()))) * 6


def test_a_bounded_part_of_sorted_data_has_most_labels() -> None:
    rows = rows_within(recordings(), CPU, 600, tokens_in, seed=0)
    assert len(rows) == 100
    assert torch.equal(rows, rows.sort().values)
    # A hundred of forty times ten: hardly a label has none, where the first hundred would have ten.
    assert len(LABELS[rows].unique()) > 30


def test_the_draw_is_the_seeds() -> None:
    first, again, other = (rows_within(recordings(), CPU, 600, tokens_in, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_where_all_fit_all_are_taken_as_they_come() -> None:
    split = recordings()
    rows = rows_within(split, CPU, len(LABELS) * 6 + 1, tokens_in, seed=0)
    assert torch.equal(rows, torch.arange(len(split)))
    given = torch.cat([targets for _, targets in batches(split, CPU, rows=rows)])
    assert torch.equal(given, torch.cat([targets for _, targets in batches(split, CPU)]))


def test_rows_of_every_length_count_as_long_as_they_are_and_are_asked_for_once() -> None:
    lengths = [3, 5] * 50
    split = FeatureSplit({"input_ids": Ragged.of([np.ones(n, np.int64) for n in lengths])}, torch.arange(100))
    asked: list[tuple[int, ...]] = []

    def count(inputs: Inputs) -> int:
        asked.append(tuple(inputs["input_ids"].shape))
        return inputs["input_ids"].numel()

    rows = rows_within(split, CPU, 100, count, seed=3)
    taken = [lengths[row] for row in rows.tolist()]
    assert 100 <= sum(taken) < 105
    assert sorted(asked) == [(1, 3), (1, 5)]
