"""Losses of a training run, added up where they are computed: a GPU is not asked for each of them."""

import math

import torch
from torch import Tensor

from api_schemas.errors import ErrorCode, SecateurError

CHECK_EVERY = 64
"""Batches on a GPU between two looks at whether the loss is finite: each look makes the host wait for the device."""


class LossTracker:
    """Adds up losses where they are computed, and asks the device only now and then whether they were finite."""

    def __init__(self, device: torch.device, every: int) -> None:
        self._every, self._since = every, 0
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._worst = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, loss: Tensor, norm: Tensor, samples: int) -> None:
        """One batch's mean loss and gradient norm. Raises NUMERICAL as `check` does, every so many batches."""
        self._sum += loss.detach().double() * samples
        # Zero where both are finite, NaN where one is not, and NaN from then on.
        self._worst += loss.detach() * 0.0 + norm.detach() * 0.0
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

    def total(self) -> float:
        """Sum of all samples' losses since the last time it was asked for. Raises NUMERICAL."""
        self.check()
        total = self._sum.item()
        self._sum.zero_()
        return total
