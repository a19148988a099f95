"""The training loop of recovery, whole: adapters on, epochs over the train split, adapters merged."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.metrics import EpochLoss
from api_schemas.spec import Finetune
from worker.engine.data.augment import Augmentation
from worker.engine.data.split import FeatureSplit
from worker.engine.evaluate.metrics import per_sample_loss
from worker.engine.recovery import lora

GRADIENT_NORM = 1.0


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Share of the highest rate, in (0, 1], at step 0 ≤ step < total.

    Up in a straight line over the first `warmup` share of the steps, then down along half a cosine. No step has rate
    zero, so that none is wasted.
    """
    rising = min(round(warmup * total), total - 1)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (total - rising)))


def _optimizer(model: nn.Module, spec: Finetune) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate)


def _batches(split: FeatureSplit, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples once, in an order drawn from `generator`."""
    order = torch.randperm(len(split), generator=generator)
    for rows in torch.split(order, batch_size):
        yield split.batch(rows)


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """One step down the gradient; returns the loss.

    Raises NUMERICAL, before the weights are touched, where loss or gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)
    value = loss.item()
    if not (math.isfinite(value) and math.isfinite(norm.item())):
        detail = f"Fine-tuning diverged: loss {value}, gradient norm {norm.item()}. Lower finetune.learning_rate."
        raise SecateurError(ErrorCode.NUMERICAL, detail)
    optimizer.step()
    return value


def finetune(
    model: PreTrainedModel,
    split: FeatureSplit,
    spec: Finetune,
    *,
    projections: Mapping[str, nn.Linear],
    classifiers: Sequence[str],
    multi_label: bool,
    pad_value: float,
    seed: int,
    device: torch.device,
    on_batch: Callable[[int, int], None],
    on_epoch: Callable[[EpochLoss], None],
) -> tuple[PreTrainedModel, dict[str, int]]:
    """Train adapters on `projections` (module name to layer) and the `classifiers`, then merge.

    Returns the merged model, which is `model` itself with new weights, in eval mode and with gradients on everywhere,
    and the adapters' ranks by module name. `on_batch(done, total)` counts batches over all epochs; `on_epoch` gets
    epochs counted from 1, their mean loss by sample and the rate of their last step.

    Everything random comes from `seed`: order and augmentation from a generator of their own, adapters' start and
    dropout from torch's global generators, which are seeded here and restored afterwards. So the result does not depend
    on what ran before. Raises NUMERICAL where loss or gradient is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    augment = None
    if spec.augment is not None:
        _, frames, mels = split.features.shape
        augment = Augmentation(spec.augment, frames=frames, mels=mels, pad_value=pad_value)
    per_epoch = math.ceil(len(split) / spec.batch_size)
    total, done = spec.epochs * per_epoch, 0
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        adapted, ranks = lora.attach(model, projections, classifiers, spec.lora)
        nn.Module.to(adapted, device).train()
        optimizer = _optimizer(adapted, spec)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(min(step, total - 1), total, spec.warmup)
        )
        for epoch in range(1, spec.epochs + 1):
            loss_sum, rate = 0.0, 0.0
            for inputs, targets in _batches(split, spec.batch_size, generator):
                if augment is not None:
                    inputs = augment(inputs, generator)
                logits = adapted(inputs.to(device)).logits
                loss = per_sample_loss(logits.float(), targets.to(device), multi_label).mean()
                rate = float(schedule.get_last_lr()[0])
                loss_sum += _update(adapted, optimizer, loss) * len(targets)
                schedule.step()
                done += 1
                on_batch(done, total)
            on_epoch(EpochLoss(epoch=epoch, train_loss=loss_sum / len(split), learning_rate=rate))
        return lora.merge(adapted), ranks
