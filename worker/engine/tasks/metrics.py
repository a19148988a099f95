"""Task metrics, as functions of outputs and targets."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import Decode


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


def macro_f1(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Mean over classes of 2·TP / (2·TP + FP + FN), of the classes that were predicted or are true somewhere; [N] each, N > 0."""
    classes = np.union1d(predicted, true)
    hits = np.array([np.sum((predicted == c) & (true == c)) for c in classes])
    named = np.array([np.sum(predicted == c) + np.sum(true == c) for c in classes])
    return float(np.mean(2 * hits / named))


def edit_distance(given: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
    """Least number of insertions, deletions and substitutions that make one sequence the other (Levenshtein)."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*given, *wanted]))}
    columns = np.array([numbers[item] for item in wanted], np.int64)
    steps = np.arange(len(wanted) + 1)
    row = steps.copy()
    for item in given:
        changed = row[:-1] + (columns != numbers[item])
        row = row + 1
        row[1:] = np.minimum(row[1:], changed)
        # What may be inserted along a row: the least of all entries before, plus the way from there.
        row = np.minimum.accumulate(row - steps) + steps
    return int(row[-1])


def error_rate(pairs: Iterable[tuple[Sequence[Hashable], Sequence[Hashable]]]) -> float | None:
    """Edit distances of all (given, wanted) over the lengths of all wanted; may exceed 1. None where nothing was wanted."""
    edits = total = 0
    for given, wanted in pairs:
        edits += edit_distance(given, wanted)
        total += len(wanted)
    return edits / total if total else None


def text_of(ids: Tensor, decode: Decode) -> str:
    """Of one row of label ids [L], padding left out."""
    return decode([number for number in ids.tolist() if number != IGNORED])


def texts_of(batches: Sequence[Tensor], decode: Decode) -> list[str]:
    """Of batches [B, L] of label ids, each of its own length; brought to the CPU together, so a device is waited for once."""
    if not batches:
        return []
    ids = torch.cat([batch.flatten() for batch in batches]).cpu().split([batch.numel() for batch in batches])
    return [text_of(row, decode) for flat, batch in zip(ids, batches, strict=True) for row in flat.view(batch.shape)]


def error_rates(given: Sequence[str], wanted: Sequence[str]) -> dict[str, float | None]:
    """`word_error_rate` and `character_error_rate` over all texts together; None where nothing was wanted.

    Words are what white space divides. Case and punctuation stay: a CTC model's tokenizer has settled them, and a Whisper's
    texts come normalized.
    """
    pairs = list(zip(given, wanted, strict=True))
    return {
        "word_error_rate": error_rate((a.split(), b.split()) for a, b in pairs),
        "character_error_rate": error_rate((" ".join(a.split()), " ".join(b.split())) for a, b in pairs),
    }


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank of every value from 1, [N]; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[place]


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation of two [N]; None where one of them is constant or there are fewer than two values."""
    a, b = (part - part.mean() if len(part) else part for part in (ranks(first), ranks(second)))
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else None
