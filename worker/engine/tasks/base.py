"""The common interface of all tasks: how a model is called, evaluated, distilled and counted.

Shapes: B samples, then the output dimensions of the head.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from api_schemas.enums import Head, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.metrics import Scores
from checkpoints.families.base import Padding
from worker.engine.data.split import FeatureSplit, Inputs
from worker.engine.tasks.label_sampling import LabelGenerators

Loss = Callable[[Tensor, Any], Tensor]
"""(answers, targets) -> one loss a sample [B]."""

Draw = Callable[[Tensor, Any, torch.Generator], Tensor]
"""(answers, targets, generator) -> one draw a sample of a gradient at the answers, with the mean (0) and covariance that labels
drawn from the model's own distribution would give; see label_sampling.py."""

Decode = Callable[[Sequence[int]], str]
"""Label ids, as they are and without padding, to text; special tokens give none."""


def logits_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """A forward pass; `logits` of the model's output, in its dtype."""
    logits: Tensor = model(**inputs).logits
    return logits


def sampled_gradient_loss(draw: Draw, seed: int) -> Loss:
    """A loss whose gradient at the answers is a draw: no further forward pass, whatever the answers."""
    generators = LabelGenerators(seed)

    def drawn(answers: Tensor, targets: Any) -> Tensor:
        gradient = draw(answers.detach(), targets, generators.generator(answers.device))
        return (answers * gradient.to(answers.dtype)).flatten(1).sum(1)

    return drawn


def _on_cpu(value: Any) -> Any:
    """Tensors in lists and tuples."""
    if isinstance(value, list | tuple):
        return type(value)(map(_on_cpu, value))
    return value.cpu() if isinstance(value, Tensor) else value


class MetricAccumulator(ABC):
    """What a model answered on a split, batch by batch in any order, until it can be scored. Waits for no device before that.

    Kept are lists, whose items are of batches or rows, and counts.
    """

    def __init__(self) -> None:
        self._numbers: list[Tensor] = []
        self._finite: list[Tensor] = []

    def add(
        self,
        numbers: Tensor,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None = None,
        real: Tensor | None = None,
    ) -> None:
        """Rows `numbers` of the split [B]: the model's answers, what was asked for, `Task.texts`, and which positions of the
        answers are real (padding.py); None: all.
        """
        self._numbers.append(numbers)
        self._finite.append(torch.isfinite(answers).all())
        self._keep(answers, targets, texts, real)

    def kept(self) -> dict[str, Any]:
        """What has been kept so far, on the CPU, for another's `absorb`."""
        return {name: _on_cpu(value) for name, value in vars(self).items() if isinstance(value, list | int)}

    def absorb(self, kept: Mapping[str, Any]) -> None:
        """Add what another accumulator of the task `kept` of other rows behind what this one has."""
        for name, value in kept.items():
            setattr(self, name, getattr(self, name) + value)

    def scores(self) -> Scores:
        """Of all rows, whatever order they came in. Raises NUMERICAL where an answer was not finite."""
        # A single NaN leaves an argmax defined, and wrong: look at all of them.
        if not bool(torch.stack(self._finite).all()):
            detail = (
                "The model's logits are not finite (NaN or infinity). Check the weights, or lower the learning rate."
            )
            raise SecateurError(ErrorCode.NUMERICAL, detail)
        return self._scores(torch.cat(self._numbers).argsort())

    @abstractmethod
    def _keep(self, answers: Tensor, targets: Tensor, texts: Sequence[str] | None, real: Tensor | None) -> None:
        """What is needed of a batch."""

    @abstractmethod
    def _scores(self, order: Tensor) -> Scores:
        """`order` brings what was kept into the split's sequence."""


class Task(ABC):
    """One head: everything in the engine that depends on what a model answers with."""

    head: ClassVar[Head]
    outputs_called: ClassVar[tuple[str, ...]] = ("logits",)
    """What the answers are called in an exported file. Several parts stand one after another in their second dimension."""
    given: ClassVar[frozenset[str]] = frozenset()
    """Inputs of a decoder, which what it listens to does not depend on."""
    padding: Padding | None = None
    """How inputs of several lengths share a pass of the model, in recovery and where it is judged; None: they do not."""

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """The model's answers to a batch: one forward pass. Logits [B, C] or [B, T, C], embeddings [B, D], or parts [B, P, …]."""
        return logits_of(model, inputs)

    def parts(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        """The same in the parts that an exported file gives."""
        return (self.outputs(model, inputs),)

    def encoder(self, model: nn.Module) -> nn.Module | None:  # noqa: ARG002 - most are one piece
        """The part of the model that a decoder listens to, where there are two."""
        return None

    def encoded(self, model: nn.Module, inputs: Inputs) -> Inputs:  # noqa: ARG002
        """The batch as the encoder leaves it, which `outputs` and `texts` take in its place; without an encoder, as it is."""
        return inputs

    def texts(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Sequence[str] | None:  # noqa: ARG002
        """What the model says by itself, where that cannot be read off `outputs`; a text a sample. `targets` say how long."""
        return None

    @abstractmethod
    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:
        """Loss of every sample, [B], in the dtype of the answers. `real` [B, T]: the positions of the answers that count, where
        rows were filled up (padding.py).
        """

    @abstractmethod
    def sampled_label_loss(self, seed: int) -> Loss:
        """A loss over the model's own predictive distribution: its mean squared gradients are the Fisher information.

        Its value need not mean anything. Of targets, no more than where there are any is read.
        """

    @abstractmethod
    def divergence(
        self, student: Tensor, teacher: Tensor, temperature: float, targets: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """How far the student's answers are from the teacher's at a temperature, mean over samples; a scalar.

        Of targets, no more than where there are any is read. `real`: as of `loss`.
        """

    def asked(self, inputs: Inputs, targets: Tensor) -> Tensor:  # noqa: ARG002 - most have it in the data
        """What the loss and the accumulator take for a batch's targets, given those of the data."""
        return targets

    @abstractmethod
    def accumulator(self) -> MetricAccumulator:
        """Counts answers towards Scores."""

    @abstractmethod
    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """How much of each sample's answer is the reference's, [B] in [0, 1]: 1 where both come to the same."""

    def ready(
        self,
        splits: Mapping[Split, FeatureSplit],
        answers: Callable[[FeatureSplit], Tensor],  # noqa: ARG002 - most have their targets
        judged: Collection[Split],  # noqa: ARG002
    ) -> dict[Split, FeatureSplit]:
        """The data as the task needs it, once a job.

        answers: the original model's to a whole split, on the CPU, in its order. judged: the splits whose targets are read.
        """
        return dict(splits)
