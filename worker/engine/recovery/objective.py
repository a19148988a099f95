"""The training objective of a batch: its loss and gradient, computed in parts if the whole batch would not fit in memory.

Losses are summed on the device, so the host does not wait for each of them.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from api_schemas.errors import ErrorCode, SecateurError
from worker.engine.data.split import Inputs, rows
from worker.engine.parallel.group import ALONE, Group
from worker.engine.recovery.distill import Distillation
from worker.engine.runtime.memory import capped_batch_size
from worker.engine.runtime.offload import graph_on_host, offloads
from worker.engine.runtime.precision import native_half, products_in
from worker.engine.tasks import Task
from worker.engine.tasks.padding import real_positions

CHECK_EVERY = 64
"""Batches on a GPU between two looks at whether the loss is finite: each look makes the host wait for the device."""
MOST_POINTS, MOST_POINTS_IN_ALL = 100, 200
"""Of the curve of an epoch's loss, and of all epochs of a recovery. They are stored with every step."""


def parts_of(batches: int, epochs: int) -> int:
    """In how many parts the loss of each of `epochs` epochs of so many batches is told; 0 where its mean says it all."""
    parts = min(batches, MOST_POINTS, MOST_POINTS_IN_ALL // epochs)
    return parts if parts > 1 else 0


def divided(inputs: Inputs, targets: Tensor, size: int) -> Iterator[tuple[Inputs, Tensor]]:
    """The batch in parts of at most `size` samples."""
    for start in range(0, rows(inputs), size):
        these = slice(start, start + size)
        yield {name: tensor[these] for name, tensor in inputs.items()}, targets[these]


Batch = tuple[Inputs, Tensor]


@dataclass(frozen=True)
class Objective:
    """The loss of `model` at `task` and, with `learning`, on a teacher's word. `microbatch` bounds one pass, in samples of all
    processes together."""

    model: nn.Module
    device: torch.device
    task: Task
    learning: Distillation | None
    microbatch: int | None
    group: Group = ALONE
    """Who computes a batch's gradient together, each on its part of every pass."""

    def backward(self, passes: Sequence[Batch]) -> Tensor:
        """Add the gradient of the batch's mean loss to the parameters' `grad`; returns that loss, a scalar without graph.

        Args:
            passes: what the batch comes in, samples of like lengths together: inputs, augmented, on the device; targets as the
                task has them, samples first.

        Every part counts by its share of the samples, so the sum of the parts' gradients is the whole batch's.
        """
        samples = sum(rows(inputs) for inputs, _ in passes)
        parts = [
            part
            for inputs, targets in (self.group.own(*batch) for batch in passes)
            for part in divided(inputs, targets, self.at_once(rows(inputs)))
        ]
        if self.learning is not None:
            with products_in(native_half(self.device), self.device):
                self.learning.survey([part for part, _ in parts])
        total = torch.zeros((), device=self.device)
        for some_inputs, some_targets in parts:
            with products_in(native_half(self.device), self.device):
                with graph_on_host() if offloads(self.device) else nullcontext():
                    answers = self.task.outputs(self.model, some_inputs).float()
                wanted, real = self.task.asked(some_inputs, some_targets), real_positions(self.model, some_inputs)
                loss = self.task.loss(answers, wanted, real).mean()
                if self.learning is not None:
                    loss = self.learning.loss(loss, some_inputs, answers, wanted, real)
            loss = loss * (rows(some_inputs) / samples)
            torch.autograd.backward(loss)
            total += loss.detach()
        if self.group.size > 1:
            self._add_up(total)
        return total

    def _add_up(self, total: Tensor) -> None:
        """Gradients and loss of all processes, in all of them. What no process has a gradient of stays without one."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        reached = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int64)
        self.group.sum_in_place([reached])
        gradients = [total]
        for parameter, somewhere in zip(trained, reached.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        self.group.sum_in_place(gradients)

    def at_once(self, samples: int) -> int:
        """Of so many that this process has, how many pass together; one at least, also of none."""
        bound = None if self.microbatch is None else self.microbatch // self.group.size
        return max(1, capped_batch_size(samples, bound))

    def alone(self) -> "Objective":
        """The same on this process's part, without the others of the group, who are not asked for anything."""
        learning = None if self.learning is None else replace(self.learning, group=ALONE)
        bound = None if self.microbatch is None else max(1, self.microbatch // self.group.size)
        return replace(self, learning=learning, group=ALONE, microbatch=bound)

    def forget(self) -> None:
        """Let go of all tensors of the last pass and of its gradients."""
        self.model.zero_grad(set_to_none=True)
        if self.learning is not None:
            self.learning.forget()


class LossTracker:
    """Adds up losses where they are computed, and asks the device only now and then whether they were finite.

    An epoch's curve costs one copy on the device for each of its points: of the sum so far. The host reads these when it asks
    whether the losses were finite, since the device has been waited for then.
    """

    def __init__(self, device: torch.device, every: int) -> None:
        self._every, self._since = every, 0
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._worst = torch.zeros((), dtype=torch.float64, device=device)
        self.points: tuple[float, ...] = ()
        """Of the epoch that goes on, or has just ended: the mean loss of the samples of each part, as far as the host knows."""
        self.epoch(batches=0, parts=0)

    def epoch(self, batches: int, parts: int) -> None:
        """One of so many batches begins, whose curve has a point for each of `parts` parts of equally many batches."""
        self._batches, self._parts, self._batch, self._samples = batches, parts, 0, 0
        self._sums = torch.zeros(parts, dtype=torch.float64, device=self._sum.device)
        """Over all samples up to the end of each part."""
        self._counts: list[int] = []
        """How many samples those are."""
        self.points = ()

    def add(self, loss: Tensor, norm: Tensor, samples: int) -> None:
        """One batch's mean loss and gradient norm. Raises NUMERICAL as `check` does, every so many batches."""
        self._sum += loss.detach().double() * samples
        self._batch, self._samples = self._batch + 1, self._samples + samples
        if self._batches and self._batch * self._parts // self._batches > len(self._counts):
            self._sums[len(self._counts)] = self._sum
            self._counts.append(self._samples)
        # Zero where both are finite, NaN where one is not, and NaN from then on.
        self._worst += loss.detach() * 0.0 + norm.detach().to(loss.device) * 0.0
        self._since += 1
        if self._since >= self._every:
            self.check()

    def check(self) -> None:
        """Raises NUMERICAL where any loss or gradient so far was not finite."""
        if not math.isfinite(self._worst.item()):
            detail = (
                f"Fine-tuning diverged: loss or gradient is not finite within the last {self._since} batches. "
                "Lower finetune.learning_rate."
            )
            raise SecateurError(ErrorCode.NUMERICAL, detail)
        self._since = 0
        if len(self._counts) > len(self.points):
            sums = [0.0, *self._sums[: len(self._counts)].tolist()]
            counts = [0, *self._counts]
            self.points = tuple(
                # As many digits as a drawing shows: these are stored, and sent with every look at a job.
                float(f"{(sums[part + 1] - sums[part]) / (counts[part + 1] - counts[part]):.5g}")
                for part in range(len(self._counts))
            )

    def total(self) -> float:
        """Sum of all samples' losses since the last time it was asked for. Raises NUMERICAL."""
        self.check()
        total = self._sum.item()
        self._sum.zero_()
        return total
