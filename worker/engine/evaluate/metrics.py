"""Losses and task metrics, as functions of logits and targets."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def per_sample_loss(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """Loss of every sample, [B], in the dtype of the logits.

    One label a sample: cross entropy in nats of logits [B, C] with targets int64 [B]. Several: binary cross entropy of
    each class's sigmoid with targets [B, C], the mean over classes.
    """
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").mean(dim=1)
    return F.cross_entropy(logits, targets, reduction="none")


def average_precision(scores: NDArray[np.floating], targets: NDArray[np.generic]) -> float:
    """Average precision of one class: Σ (R_n - R_{n-1}) P_n over the distinct scores, from the highest down.

    scores: [N]; targets: [N], nonzero where positive. Samples with equal scores enter together, so that their order
    does not count, and no interpolation is done (the definition of scikit-learn and of AudioSet's evaluation). NaN
    where no sample is positive.
    """
    positive = np.asarray(targets) != 0
    if not positive.any():
        return float("nan")
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, hits = np.asarray(scores)[order], np.cumsum(positive[order])
    # The last sample of every run of equal scores: thresholds lie only there.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: NDArray[np.floating], targets: NDArray[np.generic]) -> float:
    """Mean of the classes' average precisions; scores and targets [N, C].

    Classes without a positive sample have no average precision and are left out. NaN where no class has one.
    """
    by_class = [average_precision(scores[:, c], targets[:, c]) for c in range(targets.shape[1])]
    defined = [value for value in by_class if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
