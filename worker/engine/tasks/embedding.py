"""Embeddings: a direction per sample, without a label. The measure is closeness to the original's.

So the original's embeddings are the targets: float32 [B, D], of length 1; computed once per split, by `ready`. Shapes: B samples,
T tokens, D width of the embedding.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api_schemas.enums import Head, Split
from api_schemas.results.metrics import Scores
from checkpoints.config.sentences import MEAN
from worker.engine.data.split import FeatureSplit, Inputs
from worker.engine.tasks.base import Loss, MetricAccumulator, Task, sampled_gradient_loss
from worker.engine.tasks.dense_layers import Layers, apply_dense
from worker.engine.tasks.label_sampling import signs_like
from worker.engine.tasks.metrics import spearman
from worker.engine.tasks.padding import real_positions

MOST_PAIRED = 1000
"""Samples whose pairwise similarities are ranked: half a million pairs."""


def _weighted_mean(hidden: Tensor) -> Tensor:
    """Tokens count by their place: the first once, the second twice, as decoders are pooled."""
    weights = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
    return torch.einsum("btd,t->bd", hidden, weights) / weights.sum()


_POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda hidden: hidden[:, 0],
    "max": lambda hidden: hidden.amax(1),
    MEAN: lambda hidden: hidden.mean(1),
    "mean_sqrt_len_tokens": lambda hidden: hidden.sum(1) / hidden.shape[1] ** 0.5,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda hidden: hidden[:, -1],
}
"""Last hidden states [B, T, D] to [B, D], under the names that sentence-transformers gives them. All tokens are real."""


def _pooled(hidden: Tensor, pooling: Sequence[str]) -> Tensor:
    return torch.cat([_POOLINGS[each](hidden) for each in pooling], dim=-1)


def embedding_of(output: object, pooling: Sequence[str] = (MEAN,), real_BT: Tensor | None = None) -> Tensor:
    """[B, D] of a model's output, not normalised; of several poolings, side by side, D is as many times the hidden size.
    `real_BT`: which tokens are, where rows were filled up.

    The projected embedding where the model has one (CLAP, CLIP), else the last hidden states, pooled. An encoder of feature maps
    (CLAP without projection) has pooled them itself.
    """
    projected = next(
        (
            embeds
            for side in ("audio", "text", "image")
            if (embeds := getattr(output, f"{side}_embeds", None)) is not None
        ),
        None,
    )
    if projected is not None:
        assert isinstance(projected, Tensor)
        return projected
    hidden = getattr(output, "last_hidden_state")  # noqa: B009 - any of transformers' outputs
    assert isinstance(hidden, Tensor)
    if hidden.ndim == 3:
        if real_BT is None:
            return _pooled(hidden, pooling)
        # Row by row where they were filled up: what a pooling is, is said once.
        lengths = real_BT.sum(1).tolist()
        return torch.cat([_pooled(hidden[row : row + 1, :length], pooling) for row, length in enumerate(lengths)])
    pooled = getattr(output, "pooler_output")  # noqa: B009
    assert isinstance(pooled, Tensor)
    return pooled


class Embedding(Task):
    """Embeddings [B, D] of length 1."""

    head = Head.EMBEDDING
    outputs_called = ("embeddings",)

    def __init__(self, pooling: Sequence[str] = (MEAN,), dense: Layers = ()) -> None:
        """`pooling`: of `checkpoints.config.sentences.POOLINGS`, what a folder says. `dense`: applied after it."""
        self._pooling, self._dense = tuple(pooling), dense

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        raw = embedding_of(model(**inputs), self._pooling, real_positions(model, inputs))
        pooled = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return F.normalize(apply_dense(self._dense, pooled), dim=-1)

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """1 − cosine similarity with the original's embedding."""
        return 1.0 - (answers * targets.to(answers.dtype)).sum(-1)

    def sampled_label_loss(self, seed: int) -> Loss:
        """The embedding is taken for the mean of a Gaussian of unit variance, whose gradient there has covariance I.

        The Fisher information is then JᵀJ, J the Jacobian of the embedding: the Gauss-Newton matrix of the squared distance
        (Martens, arXiv 1412.1193, §8 and §9), which between directions is twice 1 − cosine.
        """
        return sampled_gradient_loss(lambda answers, _targets, generator: signs_like(answers, generator), seed)

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """1 − cosine similarity. Directions have no temperature: what the objective multiplies by is taken out again."""
        return self.loss(student, teacher).mean() / temperature**2

    def ready(
        self,
        splits: Mapping[Split, FeatureSplit],
        answers: Callable[[FeatureSplit], Tensor],
        judged: Collection[Split],
    ) -> dict[Split, FeatureSplit]:
        """With the original's embeddings as targets, in the splits whose targets are read."""
        return {
            name: FeatureSplit(split.inputs, answers(split)) if name in judged else split
            for name, split in splits.items()
        }

    def accumulator(self) -> MetricAccumulator:
        return _EmbeddingAccumulator()

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """Cosine similarity, 0 where it is negative."""
        return (answers.double() * reference.double()).sum(-1).clamp(0, 1)


class _EmbeddingAccumulator(MetricAccumulator):
    def __init__(self) -> None:
        super().__init__()
        self._answers: list[Tensor] = []
        self._targets: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        self._answers.append(answers)
        self._targets.append(targets)

    def _scores(self, order: Tensor) -> Scores:
        ours, theirs = (torch.cat(part).cpu()[order].double() for part in (self._answers, self._targets))
        # Evenly over the split, since rows are often sorted.
        some = torch.from_numpy(np.unique(np.linspace(0, len(ours) - 1, MOST_PAIRED).round().astype(np.int64)))
        first, second = torch.triu_indices(len(some), len(some), offset=1)
        pairs = [(part[some] @ part[some].T)[first, second].numpy() for part in (ours, theirs)]
        return Scores(
            samples=len(ours),
            cosine_similarity=float((ours * theirs).sum(-1).mean()),
            similarity_correlation=spearman(*pairs),
        )
