"""Classification: one label per sample, or several. Shapes: B samples, C classes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.tasks.base import Loss, MetricAccumulator, Task, sampled_gradient_loss
from worker.engine.tasks.label_sampling import sigmoid_gradients, softmax_gradients
from worker.engine.tasks.metrics import mean_average_precision
from worker.engine.tasks.padding import mean_of_real


def softened_divergence(
    student_BC: Tensor, teacher_BC: Tensor, temperature: float, real_BT: Tensor | None = None
) -> Tensor:
    """KL(teacher ‖ student) in nats of softmax(logits / temperature) over the last dimension, mean over the others; a scalar.

    With `real_BT`, of (B, T, C): mean over each sample's real positions, then over samples.
    """
    log_teacher_BC = (teacher_BC / temperature).log_softmax(dim=-1)
    difference_BC = log_teacher_BC - (student_BC / temperature).log_softmax(dim=-1)
    by_position = (log_teacher_BC.exp() * difference_BC).sum(dim=-1)
    return by_position.mean() if real_BT is None else mean_of_real(by_position, real_BT).mean()


class Classification(Task):
    """Logits [B, C]. Targets int64 [B]; with `several`, [B, C] of zeros and ones."""

    head = Head.CLASSIFICATION

    def __init__(self, *, several: bool) -> None:
        self.several = several

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Cross entropy in nats. With several labels, binary cross entropy of each class's sigmoid, the mean over classes."""
        if self.several:
            return F.binary_cross_entropy_with_logits(answers, targets.to(answers.dtype), reduction="none").mean(dim=1)
        return F.cross_entropy(answers, targets, reduction="none")

    def sampled_label_loss(self, seed: int) -> Loss:
        gradients = sigmoid_gradients if self.several else softmax_gradients
        return sampled_gradient_loss(lambda answers, _targets, generator: gradients(answers, generator), seed)

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """KL(teacher ‖ student) of the classes' probabilities, in nats.

        One label: of the softmax of logits / temperature. Several: of each class's own sigmoid (a Bernoulli distribution), the
        mean over classes, as the loss takes it.
        """
        if not self.several:
            return softened_divergence(student, teacher, temperature)
        student, teacher = student / temperature, teacher / temperature
        yes_BC = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
        no_BC = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
        return (yes_BC + no_BC).mean()

    def accumulator(self) -> MetricAccumulator:
        return _ClassificationAccumulator(self)

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """The same first class; with several labels, the same decision at 0.5 for every class."""
        if self.several:
            return ((answers > 0) == (reference > 0)).all(dim=1).double()
        return (answers.argmax(1) == reference.argmax(1)).double()


class _ClassificationAccumulator(MetricAccumulator):
    def __init__(self, task: Classification) -> None:
        super().__init__()
        self._task = task
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        self._logits.append(answers)
        self._targets.append(targets)

    def _scores(self, order: Tensor) -> Scores:
        logits, targets = torch.cat(self._logits).cpu()[order], torch.cat(self._targets).cpu()[order]
        cross_entropy = float(self._task.loss(logits.double(), targets).mean())
        if self._task.several:
            precision = mean_average_precision(logits.numpy(), targets.numpy())
            return Scores(
                samples=len(targets),
                cross_entropy=cross_entropy,
                mean_average_precision=None if math.isnan(precision) else precision,
            )
        correct = int((logits.argmax(dim=1) == targets).sum())
        return Scores(samples=len(targets), cross_entropy=cross_entropy, accuracy=correct / len(targets))
