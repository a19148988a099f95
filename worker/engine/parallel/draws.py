"""Draws labels for a batch that is divided among several processes: the same labels as if one process had the whole batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.parallel.group import Group
from worker.engine.tasks import Loss


def of_own(loss: Loss) -> Loss:
    """A loss that does not draw, where a process may have no sample of a batch."""
    return lambda answers, targets: loss(answers, targets) if len(answers) else answers


@dataclass(frozen=True)
class SharedDraws:
    """A loss that draws, over whole batches: each process draws for all samples of a batch, and has the losses of its own.

    What is drawn depends on all answers' shape and on what was drawn before, so everybody sees the answers of all.
    """

    loss: Loss
    group: Group

    def __call__(self, answers: Tensor, targets: Tensor) -> Tensor:
        """One loss a sample of this process; none where it has none."""
        own = None if not len(answers) else (answers.detach().cpu(), targets.cpu())
        found = self.group.gather(own)
        parts = [answers if rank == self.group.rank else part[0].to(answers.device) for rank, part in _there(found)]
        asked = [targets if rank == self.group.rank else part[1].to(targets.device) for rank, part in _there(found)]
        losses = self.loss(torch.cat(parts), torch.cat(asked))
        before = sum(len(part[0]) for rank, part in _there(found) if rank < self.group.rank)
        return losses[before : before + len(answers)]


def _there(found: list[tuple[Tensor, Tensor] | None]) -> list[tuple[int, tuple[Tensor, Tensor]]]:
    return [(rank, part) for rank, part in enumerate(found) if part is not None]
