"""The calibration samples of a step: which they are, in which batches they come, and the loss they are scored by."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from api_schemas.enums import LabelSource
from api_schemas.spec.pruning import Calibration
from worker.engine.data import FeatureSplit
from worker.engine.data.loader import BatchLoader
from worker.engine.data.split import Inputs
from worker.engine.runtime.memory import capped_batch_size
from worker.engine.tasks import Loss, Task

BATCH = {"cpu": 8, "cuda": 64}
"""Samples that pass through the model together, by device: on a CPU more of them only leave its caches."""


def draw(split: FeatureSplit, settings: Calibration, seed: int) -> FeatureSplit:
    """The split, or as many of its samples as asked for, drawn by seed, in the split's order."""
    return split if settings.samples is None else split.random_subset(settings.samples, seed)


def batches(
    split: FeatureSplit, device: torch.device, *, microbatch: int | None = None, rows: Tensor | None = None
) -> Iterator[tuple[Inputs, Tensor]]:
    """(inputs, targets) as FeatureSplit.batches has them, on the device; none above `microbatch`. `rows`: these alone."""
    size = capped_batch_size(BATCH.get(device.type, BATCH["cpu"]), microbatch)
    return BatchLoader(split, device).batches(split.batches(size, rows))


def rows_within(
    split: FeatureSplit, device: torch.device, most: int, tokens_in: Callable[[Inputs], int], seed: int
) -> Tensor:
    """Numbers of rows, in order, until they have `most` tokens together: all where that is not reached.

    Drawn by `seed`, since splits are often sorted by what they say: their first rows would be of a few labels. `tokens_in`: of a
    batch's inputs; asked once for every length that rows have.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    by_bucket: dict[int, int] = {}
    total = 0
    for place, row in enumerate(order.tolist(), start=1):
        bucket = int(split.length_buckets[row])
        if bucket not in by_bucket:
            one, _ = next(BatchLoader(split, device).batches([torch.tensor([row])]))
            by_bucket[bucket] = tokens_in(one)
        total += by_bucket[bucket]
        if total >= most:
            return order[:place].sort().values
    return torch.arange(len(split))


def draws(settings: Calibration) -> int:
    """How many losses each sample is scored by: one of the data's labels, or as many as the spec draws of the model's own."""
    return settings.draws if settings.labels is LabelSource.MODEL else 1


def loss_for(task: Task, labels: LabelSource, seed: int) -> Loss:
    """(answers, targets) -> one loss a sample, with the data's labels or over the model's own distribution."""
    return task.sampled_label_loss(seed) if labels is LabelSource.MODEL else task.loss
