"""Scores of a model on a split."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.metrics import Scores
from worker.engine.data.feed import Feed
from worker.engine.data.split import FeatureSplit, placed, rows
from worker.engine.evaluate.metrics import mean_average_precision, per_sample_loss


def logits_of(
    model: nn.Module,
    split: FeatureSplit,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Float32 logits [N, C] on the CPU, of all samples in the split's order.

    The model runs on `device` at its own dtype, in eval mode and without autocast; its training flag is restored.
    """
    training = model.training
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    collected: list[Tensor] = []
    order = split.batches(batch_size)
    done = 0
    model.to(device)
    model.train(False)
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for inputs, _ in Feed(split, device).batches(order):
                collected.append(model(**placed(inputs, device, dtype)).logits.float())
                done += rows(inputs)
                if progress is not None:
                    progress(done, len(split))
    finally:
        model.train(training)
    return torch.cat(collected).cpu()[torch.cat(order).argsort()]


def evaluate(
    model: nn.Module,
    split: FeatureSplit,
    *,
    batch_size: int,
    device: torch.device,
    multi_label: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Loss and task metric of `model` on the whole split; `progress(done, total)` counts samples.

    Raises DATASET_EMPTY where there is nothing to score and NUMERICAL where the model's output is not finite.
    """
    if not len(split):
        raise SecateurError(ErrorCode.DATASET_EMPTY, "A split without samples cannot be scored; give it rows.")
    logits = logits_of(model, split, batch_size=batch_size, device=device, progress=progress)
    return scores_of(logits, split.all_targets(), multi_label)


def scores_of(logits: Tensor, targets: Tensor, multi_label: bool) -> Scores:
    """Loss and task metric of logits [N, C] against targets [N] or [N, C]. Raises NUMERICAL where a logit is not finite."""
    cross_entropy = float(per_sample_loss(logits.double(), targets, multi_label).mean())
    # A single NaN among the logits leaves the argmax defined, and wrong: look at all of them.
    if not (math.isfinite(cross_entropy) and bool(torch.isfinite(logits).all())):
        detail = "The model's logits are not finite (NaN or infinity). Check the weights, or lower the learning rate."
        raise SecateurError(ErrorCode.NUMERICAL, detail)
    if multi_label:
        precision = mean_average_precision(logits.numpy(), targets.numpy())
        return Scores(
            samples=len(targets),
            cross_entropy=cross_entropy,
            mean_average_precision=None if math.isnan(precision) else precision,
        )
    correct = int((logits.argmax(dim=1) == targets).sum())
    return Scores(samples=len(targets), cross_entropy=cross_entropy, accuracy=correct / len(targets))
