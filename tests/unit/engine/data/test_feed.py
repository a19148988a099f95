"""Batches on the device: the same tensors whichever way they come, in the order asked for."""

import threading

import numpy as np
import pytest
import torch

from worker.engine.data.loader import BatchLoader, fits
from worker.engine.data.split import FeatureSplit

CPU = torch.device("cpu")
ORDER = torch.split(torch.randperm(23, generator=torch.Generator().manual_seed(0)), 5)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def split() -> FeatureSplit:
    random = np.random.default_rng(0)
    return FeatureSplit({"input_values": random.normal(size=(23, 6, 4)).astype(np.float32)}, torch.arange(23))


def expected(split: FeatureSplit) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [split.batch(rows) for rows in ORDER]


@pytest.mark.parametrize("resident", [False, True])
def test_batches_are_the_splits(split: FeatureSplit, resident: bool) -> None:
    found = list(BatchLoader(split, CPU, resident=resident).batches(ORDER))
    assert [targets.tolist() for _, targets in found] == [rows.tolist() for rows in ORDER]
    for (inputs, targets), (want, want_targets) in zip(found, expected(split), strict=True):
        assert inputs.keys() == want.keys()
        assert all(torch.equal(tensor, want[name]) for name, tensor in inputs.items())
        assert torch.equal(targets, want_targets)


def test_the_cpu_holds_nothing_twice(split: FeatureSplit) -> None:
    assert not fits(split, CPU)


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True])
def test_a_gpu_gets_the_same_bits(split: FeatureSplit, resident: bool) -> None:
    device = torch.device("cuda")
    assert fits(split, device)
    assert not fits(split, device, share=0.0)
    for (inputs, targets), (want, want_targets) in zip(
        BatchLoader(split, device, resident=resident).batches(ORDER), expected(split), strict=True
    ):
        assert all(tensor.device.type == "cuda" for tensor in inputs.values())
        assert all(torch.equal(tensor.cpu(), want[name]) for name, tensor in inputs.items())
        assert torch.equal(targets.cpu(), want_targets)


@gpu
@pytest.mark.gpu
def test_reading_ahead_ends_when_nobody_asks_any_more(split: FeatureSplit) -> None:
    before = threading.active_count()
    batches = BatchLoader(split, torch.device("cuda")).batches(ORDER)
    next(batches)
    batches.close()
    assert threading.active_count() == before
