"""The training loop of recovery, whole: adapters on, epochs over the train split, adapters merged."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.metrics import EpochLoss
from api_schemas.recovery import Finetune
from worker.engine.data.augment import Augmentation
from worker.engine.data.feed import Feed, fits, to_device
from worker.engine.data.split import FeatureSplit
from worker.engine.evaluate.metrics import per_sample_loss
from worker.engine.recovery import lora
from worker.engine.recovery.distill import Teacher, distillation
from worker.engine.recovery.ledger import CHECK_EVERY, Ledger

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


def _precision(device: torch.device) -> torch.autocast:
    """bfloat16 in the matrix products where a GPU computes them natively. The CPU stays in float32, weights everywhere."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def _gradients(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Backward pass, gradients clipped; returns their norm before that."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    return nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)


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
    teacher: Teacher | None = None,
) -> tuple[PreTrainedModel, dict[str, int]]:
    """Train adapters on `projections` (module name to layer) and the `classifiers`, then merge.

    Returns the merged model, which is `model` itself with new weights, in eval mode and with gradients on everywhere,
    and the adapters' ranks by module name. `on_batch(done, total)` counts batches over all epochs; `on_epoch` gets
    epochs counted from 1, their mean loss by sample and the rate of their last step. `teacher` is the original model,
    on `device`, for `spec.distill`; it sees the same augmented inputs and is not changed.

    Everything random comes from `seed`: order and augmentation from a generator of their own, adapters' start and
    dropout from torch's global generators, which are seeded here and restored afterwards. So the result does not depend
    on what ran before. Raises NUMERICAL where loss or gradient is not finite: on the CPU before the weights are touched,
    on a GPU some batches later, but before they are merged.
    """
    generator = torch.Generator().manual_seed(seed)
    augment = None
    if spec.augment is not None:
        _, frames, mels = split.features.shape
        augment = Augmentation(spec.augment, frames=frames, mels=mels, pad_value=pad_value)
    per_epoch = math.ceil(len(split) / spec.batch_size)
    total, done = spec.epochs * per_epoch, 0
    cuda = [device] if device.type == "cuda" else []
    feed = Feed(split, device, resident=spec.epochs > 1 and fits(split, device))
    ledger = Ledger(device, every=CHECK_EVERY if cuda else 1)
    with torch.random.fork_rng(devices=cuda), ExitStack() as stack:
        torch.manual_seed(seed)
        adapted, ranks = lora.attach(model, projections, classifiers, spec.lora)
        nn.Module.to(adapted, device).train()
        base = lora.base_of(adapted)
        learning = stack.enter_context(distillation(spec.distill, teacher, base, multi_label=multi_label))
        optimizer = _optimizer(adapted, spec)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(min(step, total - 1), total, spec.warmup)
        )
        for epoch in range(1, spec.epochs + 1):
            rate = 0.0
            order = torch.split(torch.randperm(len(split), generator=generator), spec.batch_size)
            for inputs, targets in feed.batches(order):
                if augment is not None:
                    inputs = augment.apply(inputs, to_device(augment.draw(len(inputs), generator), device))
                with _precision(device):
                    logits = adapted(inputs).logits.float()
                    loss = per_sample_loss(logits, targets, multi_label).mean()
                    if learning is not None:
                        loss = learning.loss(loss, inputs, logits)
                norm = _gradients(adapted, optimizer, loss)
                ledger.add(loss, norm, len(targets))
                rate = float(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
                done += 1
                on_batch(done, total)
            on_epoch(EpochLoss(epoch=epoch, train_loss=ledger.total() / len(split), learning_rate=rate))
        # Before the merge: hooks are not part of the model.
        stack.close()
        return lora.merge(adapted), ranks
