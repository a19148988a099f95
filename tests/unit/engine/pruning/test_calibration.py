"""The batches of calibration samples."""

import numpy as np
import torch

from worker.engine.data.split import FeatureSplit
from worker.engine.pruning.calibration import BATCH, Batches, InputsOf

CPU = torch.device("cpu")


def test_all_samples_come_each_time_and_none_above_a_microbatch() -> None:
    split = FeatureSplit({"input_values": np.arange(40, dtype=np.float32).reshape(20, 2)}, torch.arange(20))
    for microbatch, size in ((None, BATCH["cpu"]), (3, 3)):
        batches = Batches(split, CPU, microbatch)
        for _ in range(2):
            found = list(batches)
            assert torch.equal(torch.cat([targets for _, targets in found]), torch.arange(20))
            assert max(len(targets) for _, targets in found) == size
            again = [inputs["input_values"] for inputs in InputsOf(batches)]
            assert torch.equal(torch.cat(again), torch.cat([inputs["input_values"] for inputs, _ in found]))
