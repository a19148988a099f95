"""The next token (Radford et al. 2018): for every token of a block, the one that follows it in the text.

Targets are determined when the data is read (worker/engine/data/featurizers/blocks.py). Shapes: B samples, T tokens, V words.
Targets int64 [B, T]: at every token the next one; -100 at the last of a block, which nothing follows.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import MetricAccumulator
from worker.engine.tasks.masked import MOST_NATS
from worker.engine.tasks.tokens import TokenTask


class CausalLm(TokenTask):
    """Logits [B, T, V], each token's given those before it and itself."""

    head = Head.CAUSAL_LM

    def accumulator(self) -> MetricAccumulator:
        return _NextTokens()


class _NextTokens(MetricAccumulator):
    """Tokens weigh alike in accuracy and perplexity; a sample's loss is the mean over its own, as in training.

    A text of a single token asks for nothing, and counts in none of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nats: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._asked: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        wide_NV = answers.to(torch.promote_types(answers.dtype, torch.float32)).flatten(0, 1)
        by_token_N = F.cross_entropy(wide_NV, targets.flatten(), ignore_index=IGNORED, reduction="none")
        self._nats.append(by_token_N.view_as(targets).double().sum(1))
        self._hits.append((answers.argmax(-1) == targets).sum(1))
        self._asked.append((targets != IGNORED).sum(1))

    def _scores(self, order: Tensor) -> Scores:
        nats_B, hits_B, asked_B = (torch.cat(each).cpu()[order] for each in (self._nats, self._hits, self._asked))
        asked = int(asked_B.sum())
        nats = float(nats_B.sum()) / asked if asked else None
        return Scores(
            samples=len(order),
            cross_entropy=float((nats_B / asked_B.clamp_min(1)).sum() / max(1, int((asked_B > 0).sum()))),
            next_token_accuracy=int(hits_B.sum()) / asked if asked else None,
            perplexity=None if nats is None or nats > MOST_NATS else math.exp(nats),
        )
