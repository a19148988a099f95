"""Token classification: one label per token, and what it shares with decoders that are trained token by token.

Shapes: B samples, T tokens, C classes. Targets int64 [B, T], -100 where there is no label.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import Loss, MetricAccumulator, Task, sampled_gradient_loss
from worker.engine.tasks.classification import softened_divergence
from worker.engine.tasks.label_sampling import softmax_gradients
from worker.engine.tasks.metrics import macro_f1


class TokenTask(Task):
    """Logits [B, T, C], each token's label on its own given what the model has seen."""

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Cross entropy in nats, mean over the tokens that have a label; 0 for a sample without any."""
        by_token_BT = F.cross_entropy(answers.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        return by_token_BT.sum(1) / (targets != IGNORED).sum(1).clamp_min(1)

    def measured_loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        """The same for measuring: each token's in float32 at least, their mean in float64.

        A vocabulary has tens of thousands of classes, whose logits would take twice the memory in float64.
        """
        wide_NC = answers.to(torch.promote_types(answers.dtype, torch.float32)).flatten(0, 1)
        by_token_N = F.cross_entropy(wide_NC, targets.flatten(), ignore_index=IGNORED, reduction="none")
        return by_token_N.view_as(targets).double().sum(1) / (targets != IGNORED).sum(1).clamp_min(1)

    def sampled_label_loss(self, seed: int) -> Loss:
        """Tokens are drawn independently; only those that have a label count, whatever it is."""

        def draw(answers: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
            drawn_BTC = softmax_gradients(answers.flatten(0, 1), generator).view_as(answers)
            counts_BT = targets != IGNORED
            return drawn_BTC * (counts_BT / counts_BT.sum(1, keepdim=True).clamp_min(1))[..., None]

        return sampled_gradient_loss(draw, seed)

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,
    ) -> Tensor:
        """KL(teacher ‖ student) in nats, mean over all real tokens: the teacher has something to say at each."""
        return softened_divergence(student, teacher, temperature, real)

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """Share of each sample's tokens with the same first class."""
        return (answers.argmax(-1) == reference.argmax(-1)).double().mean(1)


class TokenClassification(TokenTask):
    """Tags, entities, parts of speech."""

    head = Head.TOKEN_CLASSIFICATION

    def accumulator(self) -> MetricAccumulator:
        return _TokenAccumulator(self)


class _TokenAccumulator(MetricAccumulator):
    """Tokens weigh alike, in long samples and in short ones; a sample's loss is the mean over its own, as in training."""

    def __init__(self, task: TokenTask) -> None:
        super().__init__()
        self._task = task
        self._losses: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._true: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        self._losses.append(self._task.measured_loss(answers, targets))
        self._predicted.append(answers.argmax(-1).flatten())
        self._true.append(targets.flatten())

    def _scores(self, order: Tensor) -> Scores:
        losses = torch.cat(self._losses).cpu()[order]
        true, predicted = torch.cat(self._true).cpu(), torch.cat(self._predicted).cpu()
        asked = true != IGNORED
        true, predicted = true[asked], predicted[asked]
        return Scores(
            samples=len(losses),
            cross_entropy=float(losses.mean()),
            token_accuracy=float((true == predicted).double().mean()) if len(true) else None,
            macro_f1=macro_f1(predicted.numpy(), true.numpy()) if len(true) else None,
        )
