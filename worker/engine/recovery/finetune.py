"""The complete training loop of recovery: add adapters, train on the train split, merge them; or train all weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.enums import FinetuneMethod
from api_schemas.results.metrics import EpochLoss, UnfinishedEpoch
from api_schemas.spec.recovery import Finetune
from worker.engine.data.augment import SPECTROGRAM, Augmentation, augmentation
from worker.engine.data.loader import BatchLoader, fits, to_device
from worker.engine.data.split import FeatureSplit, Inputs, rows
from worker.engine.models.model_spec import without_weights
from worker.engine.parallel.group import ALONE, Group
from worker.engine.recovery import lora
from worker.engine.recovery.checkpointing import CheckpointSettings, RecoveryCheckpointer
from worker.engine.recovery.distill import Teacher, distillation
from worker.engine.recovery.memory_search import gradient
from worker.engine.recovery.objective import CHECK_EVERY, LossTracker, Objective, parts_of
from worker.engine.recovery.training_state import TrainingIdentity, TrainingState, digest_of
from worker.engine.runtime.determinism import step_seed
from worker.engine.runtime.mapped import into_memory
from worker.engine.runtime.memory import capped_batch_size
from worker.engine.runtime.offload import place
from worker.engine.tasks import Task

GRADIENT_NORM = 1.0
SEVERAL_LENGTHS = "similar lengths"
"""The name, in a training's identity, of batching rows by similar lengths."""


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """The learning rate at step 0 ≤ step < total relative to the highest, in (0, 1].

    It rises linearly over the first `warmup` share of the steps, then falls along half a cosine. No step has rate zero, so none
    is wasted.
    """
    rising = min(round(warmup * total), total - 1)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (total - rising)))


def _optimizer(model: nn.Module, spec: Finetune) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # The schedule reads the rate at its start if it does not begin there.
    shared = {"initial_lr": spec.learning_rate}
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.weight_decay, **shared},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0, **shared},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate)


def _clipped(model: nn.Module) -> Tensor:
    """Clip the gradients; returns their norm before that."""
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    return nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)


def _augmented(augment: Augmentation, inputs: Inputs, generator: torch.Generator, device: torch.device) -> Inputs:
    drawn = to_device(augment.draw(rows(inputs), generator), device)
    return inputs | {SPECTROGRAM: augment.apply(inputs[SPECTROGRAM], drawn)}


def train_without_batch_norm(model: nn.Module) -> None:
    """Train mode, except for batch norms: samples must not affect each other, and the statistics must stay those of inference."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()


def trainable(
    model: PreTrainedModel, projections: Mapping[str, nn.Linear], classifiers: Sequence[str], spec: Finetune
) -> tuple[lora.Adapted, dict[str, int]]:
    """Make the parameters to train require gradients. Returns what is trained, and the ranks of its adapters."""
    if spec.method is FinetuneMethod.LORA:
        return lora.attach(model, projections, classifiers, spec.lora)
    # Parameters that the class itself freezes stay frozen, such as the positions of Whisper's encoder. Later code may have
    # frozen all.
    with without_weights():
        fresh = type(model)(model.config)
    fixed = {name for name, parameter in fresh.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
    return model, {}


def finetune(
    model: PreTrainedModel,
    split: FeatureSplit,
    spec: Finetune,
    *,
    projections: Mapping[str, nn.Linear],
    classifiers: Sequence[str],
    task: Task,
    pad_value: float,
    seed: int,
    device: torch.device,
    on_batch: Callable[[int, int], None],
    on_epoch: Callable[[EpochLoss], None],
    on_points: Callable[[UnfinishedEpoch], None] = lambda _: None,
    teacher: Teacher | None = None,
    microbatch: int | None = None,
    checkpointing: CheckpointSettings | None = None,
    group: Group = ALONE,
) -> tuple[PreTrainedModel, dict[str, int]]:
    """Train adapters on `projections` (module name to layer) and the `classifiers`, then merge; or, by `spec`, all weights.

    Returns the merged model, which is `model` itself with new weights, in eval mode and with gradients on everywhere,
    and the adapters' ranks by module name. `on_batch(done, total)` counts batches over all epochs; `on_epoch` gets
    epochs counted from 1, their mean loss by sample and the rate of their last step. `on_points` gets the curve of an epoch's
    loss, each time that more of it is known to the host; it never makes the host wait. `teacher` is the original model,
    on `device`, for `spec.distill`; it sees the same augmented inputs and is not changed. `microbatch` bounds the samples of
    one pass; a larger batch's gradient is added up over several, and its dropout is drawn pass by pass. `checkpointing` says
    where the training is kept between epochs and where an earlier attempt kept it: gone on from there, the weights are the same
    bits as in one go. `on_batch` and `on_epoch` hear nothing of epochs that are not done again. The processes of `group`,
    whose models are the same, compute a part of every batch each, and train alike; each draws dropout of its own.

    Everything random comes from `seed`: order and augmentation from a generator of their own, adapters' start and
    dropout from torch's global generators, which are seeded here and restored afterwards. So the result does not depend
    on what ran before. Raises NUMERICAL where loss or gradient is not finite: on the CPU before the weights are touched,
    on a GPU some batches later, but before they are merged. Raises OUT_OF_MEMORY, saying how many samples do fit, where a
    pass runs out of it.
    """
    # Parts of it may be shared with the original.
    into_memory(model)
    generator = torch.Generator().manual_seed(seed)
    augment = augmentation(spec.augment, split, pad_value)
    split = split.padded(task.padding)
    most = capped_batch_size(spec.batch_size, microbatch)
    per_epoch = len(split.steps(spec.batch_size, torch.arange(len(split))))
    total = spec.epochs * per_epoch
    cuda = [device] if device.type == "cuda" else []
    feed = BatchLoader(split, device, resident=spec.epochs > 1 and fits(split, device))
    tracker = LossTracker(device, every=CHECK_EVERY if cuda else 1)
    identity = None
    if checkpointing is not None:
        # Without the method if it is the only one that once existed, so that older saved states can still be resumed.
        old = {"method"} if spec.method is FinetuneMethod.LORA else None
        # Batches of several lengths used to be formed differently: a state saved then belongs to another training.
        settings = spec.model_dump_json(exclude=old) + ("" if split.alike else SEVERAL_LENGTHS)
        settings += "" if group.size == 1 else f"{group.size} processes"
        start = digest_of(model.state_dict(), also=settings)
        identity = TrainingIdentity(
            step=checkpointing.step, seed=seed, batches=total, microbatch=microbatch, start=start
        )
    with torch.random.fork_rng(devices=cuda), ExitStack() as stack:
        torch.manual_seed(seed)
        adapted, ranks = trainable(model, projections, classifiers, spec)
        base = lora.base_of(adapted)
        place(base, device)
        train_without_batch_norm(adapted)
        learning = stack.enter_context(distillation(spec.distill, teacher, base, task, group))
        objective = Objective(adapted, device, task, learning, microbatch, group)
        optimizer = _optimizer(adapted, spec)
        checkpointer = None
        losses: list[EpochLoss] = []
        if checkpointing is not None and identity is not None:
            trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
            checkpointer = RecoveryCheckpointer(
                checkpointing, identity, TrainingState(trained, optimizer, generator, device)
            )
            losses += checkpointer.resumed(per_epoch)
        done = len(losses) * per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(min(step, total - 1), total, spec.warmup), last_epoch=done - 1
        )
        for epoch in range(len(losses) + 1, spec.epochs + 1):
            rate, parts = 0.0, parts_of(per_epoch, spec.epochs)
            tracker.epoch(per_epoch, parts)
            if group.size > 1:
                # Different in each process, and reproducible when a recovery resumes after an epoch.
                torch.manual_seed(step_seed(seed, epoch, f"process {group.rank}"))
            steps = split.steps(spec.batch_size, torch.randperm(len(split), generator=generator), most, device.type)
            loaded = feed.batches(numbers for step in steps for numbers in step)
            for step in steps:
                passes = list(islice(loaded, len(step)))
                if augment is not None:
                    passes = [(_augmented(augment, inputs, generator, device), targets) for inputs, targets in passes]
                optimizer.zero_grad(set_to_none=True)
                loss, known = gradient(objective, passes), tracker.points
                tracker.add(loss, _clipped(adapted), sum(map(len, step)))
                if tracker.points is not known:
                    on_points(UnfinishedEpoch(epoch=epoch, epochs=spec.epochs, parts=parts, points=tracker.points))
                rate = float(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
                done += 1
                on_batch(done, total)
            mean = tracker.total() / len(split)
            losses.append(EpochLoss(epoch=epoch, train_loss=mean, learning_rate=rate, points=tracker.points))
            on_epoch(losses[-1])
            if checkpointer is not None and epoch < spec.epochs and group.first:
                checkpointer.epoch_done(losses)
        # Before the merge: hooks are not part of the model.
        stack.close()
        return lora.merge(adapted), ranks
