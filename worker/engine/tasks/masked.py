"""Masked language modelling (Devlin et al., arXiv 1810.04805): predicts the tokens of a text that were replaced.

The masks are determined when the data is read (worker/engine/data/featurizers/masking.py). Shapes: B samples, T tokens, V words,
M masked tokens of the whole batch. Targets int64 [B, T], -100 at all other tokens.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import Loss, MetricAccumulator
from worker.engine.tasks.label_sampling import LabelGenerators, softmax_gradients
from worker.engine.tasks.tokens import TokenTask

MOST_NATS = 700.0
"""A mean loss above this has no perplexity that a float could hold."""

Places = tuple[Tensor, ...]


def _places(targets: Tensor) -> Places:
    """Row and column of every masked token, [M] each. On a GPU this waits for it: less time than V logits of every token take."""
    return (targets != IGNORED).nonzero(as_tuple=True)


def _mean_of_samples(by_token_M: Tensor, places: Places, targets: Tensor) -> Tensor:
    """Each sample's mean over its masked tokens, [B]; 0 for a sample without any."""
    by_token_BT = by_token_M.new_zeros(targets.shape).index_put(places, by_token_M)
    return by_token_BT.sum(1) / (targets != IGNORED).sum(1).clamp_min(1)


class MaskedLm(TokenTask):
    """Logits [B, T, V]. Only those of masked tokens count: the others see their own answer."""

    head = Head.MASKED_LM

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Cross entropy in nats, mean over the sample's masked tokens; 0 for a sample without any."""
        places = _places(targets)
        by_token_M = F.cross_entropy(answers[places], targets[places], reduction="none")
        return _mean_of_samples(by_token_M, places, targets)

    def sampled_label_loss(self, seed: int) -> Loss:
        """Masked tokens are drawn independently, each from its own softmax; see softmax_gradients."""
        generators = LabelGenerators(seed)

        def drawn(answers: Tensor, targets: Tensor) -> Tensor:
            places = _places(targets)
            logits_MV = answers[places]
            gradients_MV = softmax_gradients(logits_MV.detach(), generators.generator(answers.device))
            return _mean_of_samples((logits_MV * gradients_MV.to(answers.dtype)).sum(1), places, targets)

        return drawn

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,
        real: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """KL(teacher ‖ student) in nats, mean over each sample's masked tokens, then over samples."""
        places = _places(targets)
        log_teacher_MV = (teacher[places] / temperature).log_softmax(-1)
        difference_MV = log_teacher_MV - (student[places] / temperature).log_softmax(-1)
        by_token_M = (log_teacher_MV.exp() * difference_MV).sum(-1)
        return _mean_of_samples(by_token_M, places, targets).mean()

    def accumulator(self) -> MetricAccumulator:
        return _MaskedAccumulator()


class _MaskedAccumulator(MetricAccumulator):
    """Masked tokens weigh alike in accuracy and perplexity; a sample's loss is the mean over its own, as in training."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: list[Tensor] = []
        self._by_token: list[Tensor] = []
        self._hits: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        places = _places(targets)
        logits_MV, asked_M = answers[places], targets[places]
        wide_MV = logits_MV.to(torch.promote_types(answers.dtype, torch.float32))
        by_token_M = F.cross_entropy(wide_MV, asked_M, reduction="none").double()
        self._losses.append(_mean_of_samples(by_token_M, places, targets))
        self._by_token.append(by_token_M)
        self._hits.append(logits_MV.argmax(-1) == asked_M)

    def _scores(self, order: Tensor) -> Scores:
        losses = torch.cat(self._losses).cpu()[order]
        by_token, hits = torch.cat(self._by_token).cpu(), torch.cat(self._hits).cpu()
        nats = float(by_token.mean()) if len(by_token) else None
        return Scores(
            samples=len(losses),
            cross_entropy=float(losses.mean()),
            masked_accuracy=float(hits.double().mean()) if len(hits) else None,
            perplexity=None if nats is None or nats > MOST_NATS else math.exp(nats),
        )
