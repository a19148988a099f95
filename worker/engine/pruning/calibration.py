"""The calibration samples of a step: which they are, in which batches they come, and the loss for scoring.

Least squares use more samples than scoring if inputs are short: a map is fitted with as many numbers as it has, and overfits a
few hundred short texts (docs/adr/0042-samples-of-least-squares.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from api_schemas.enums import LabelSource
from api_schemas.spec.pruning import Calibration
from worker.engine.data import FeatureSplit
from worker.engine.data.loader import BatchLoader
from worker.engine.data.split import Inputs
from worker.engine.parallel.draws import SharedDraws, of_own
from worker.engine.parallel.group import ALONE, Group
from worker.engine.runtime.memory import capped_batch_size
from worker.engine.runtime.offload import offloads
from worker.engine.tasks import Loss, Task

BATCH = {"cpu": 8, "cuda": 64}
"""Samples that pass through the model together, by device: on a CPU more of them only leave its caches.
A device that is too small for the model takes as many as a CPU."""

TOKENS_AN_INPUT = 64
"""What least squares take of the samples they may have, for every input of the widest map that is fitted."""


def draw(split: FeatureSplit, settings: Calibration, seed: int) -> FeatureSplit:
    """The split, or as many of its samples as asked for, drawn by seed, in the split's order."""
    return split if settings.samples is None else split.random_subset(settings.samples, seed)


def refit_samples(settings: Calibration, there: int, *, tokens: float | None, inputs: int) -> int:
    """How many of the `there` samples of the split least squares take.

    tokens: average per sample; None if not counted. inputs: of the widest map that is fitted.
    """
    scored = there if settings.samples is None else min(settings.samples, there)
    most = scored if settings.refit_samples is None else min(settings.refit_samples, there)
    enough = most if tokens is None else ceil(TOKENS_AN_INPUT * inputs / max(tokens, 1.0))
    return max(scored, min(most, enough))


@dataclass(frozen=True)
class Batches:
    """(inputs, targets) as FeatureSplit.batches has them, on the device; the same each time they are gone through."""

    split: FeatureSplit
    device: torch.device
    microbatch: int | None = None
    """The most samples of one batch."""
    rows: Tensor | None = None
    """Numbers of the samples; None: all of the split."""

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        kind = "cpu" if offloads(self.device) else self.device.type
        size = capped_batch_size(BATCH.get(kind, BATCH["cpu"]), self.microbatch)
        yield from BatchLoader(self.split, self.device).batches(self.split.batches(size, self.rows))


@dataclass(frozen=True)
class InputsOf:
    """The inputs of batches, alone."""

    batches: Batches

    def __iter__(self) -> Iterator[Inputs]:
        return (inputs for inputs, _ in self.batches)


def draws(settings: Calibration) -> int:
    """How many losses each sample is scored by: one of the data's labels, or as many as the spec draws of the model's own."""
    return settings.draws if settings.labels is LabelSource.MODEL else 1


def loss_for(task: Task, labels: LabelSource, seed: int, group: Group = ALONE) -> Loss:
    """(answers, targets) -> one loss a sample, with the data's labels or over the model's own distribution."""
    if labels is not LabelSource.MODEL:
        return task.loss if group.size == 1 else of_own(task.loss)
    drawn = task.sampled_label_loss(seed)
    return drawn if group.size == 1 else SharedDraws(drawn, group)
