"""Scores of a model on a split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.metrics import Scores
from worker.engine.data.loader import BatchLoader
from worker.engine.data.split import FeatureSplit, Inputs, placed, rows
from worker.engine.evaluate.encoder_outputs import EncoderOutputs
from worker.engine.parallel.group import ALONE, Group
from worker.engine.runtime.offload import place
from worker.engine.tasks import Task
from worker.engine.tasks.padding import real_positions

OnBatch = Callable[[Tensor, Inputs, Tensor, Tensor, Tensor | None], None]
"""(row numbers, inputs, answers, targets, real positions) of a batch; all but the numbers on the device. See Task.loss."""


def run_over(
    model: nn.Module,
    split: FeatureSplit,
    task: Task,
    see: OnBatch,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    encoder_outputs: EncoderOutputs | None = None,
    group: Group = ALONE,
) -> None:
    """Show `see` the float32 answers of `model` to every batch of the split; `progress(done, total)` counts samples.

    The model runs on `device` at its own dtype, in eval mode and without autocast; its training flag is restored. The inputs that
    `see` gets are as `Task.encoded` leaves them; `encoder_outputs` may know them already. Rows of several lengths are filled up
    where `Task.padding` allows it. Of a `group`, every process sees every so-manieth batch.
    """
    training = model.training
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    filled = split.padded(task.padding)
    order = filled.passes(batch_size, device.type)[group.rank :: group.size]
    done = 0
    known = encoder_outputs or EncoderOutputs(keeps=False)
    place(model, device)
    known.begin(task, model, split)
    model.train(False)
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for numbers, (inputs, targets) in zip(order, BatchLoader(filled, device).batches(order), strict=True):
                own = known.encoded(task, model, numbers, placed(inputs, device, dtype))
                answers, real = task.outputs(model, own).float(), real_positions(model, own)
                see(numbers, own, answers, task.asked(own, targets), real)
                done += rows(inputs) * group.size
                if progress is not None:
                    progress(min(done, len(split)), len(split))
    finally:
        model.train(training)


def answers_of(
    model: nn.Module,
    split: FeatureSplit,
    task: Task,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Float32 answers [N, …] on the CPU in the split's order, where all are of one shape; see run_over."""
    collected: list[Tensor] = []
    numbers: list[Tensor] = []

    def see(these: Tensor, _inputs: Inputs, answers: Tensor, _targets: Tensor, _real: Tensor | None) -> None:
        numbers.append(these)
        collected.append(answers)

    run_over(model, split, task, see, batch_size=batch_size, device=device, progress=progress)
    return torch.cat(collected).cpu()[torch.cat(numbers).argsort()]


def evaluate(
    model: nn.Module,
    split: FeatureSplit,
    task: Task,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    texts: bool = True,
    encoder_outputs: EncoderOutputs | None = None,
    group: Group = ALONE,
) -> Scores:
    """What `model` is worth on the whole split, by the task's measures.

    Without `texts` nothing is written token by token: of a model that is judged by that, the loss is all there is.
    `encoder_outputs`: what may be known already of what the encoder makes of the split; see there. The processes of `group` share
    the work, and each gets the scores of the whole split.

    Raises DATASET_EMPTY where there is nothing to score and NUMERICAL where the model's output is not finite.
    """
    if not len(split):
        raise SecateurError(ErrorCode.DATASET_EMPTY, "A split without samples cannot be scored; it needs rows.")
    accumulator = task.accumulator()

    def see(numbers: Tensor, inputs: Inputs, answers: Tensor, targets: Tensor, real: Tensor | None) -> None:
        written = task.texts(model, inputs, targets) if texts else None
        accumulator.add(numbers, answers, targets, written, real)

    run_over(
        model,
        split,
        task,
        see,
        batch_size=batch_size,
        device=device,
        progress=progress,
        encoder_outputs=encoder_outputs,
        group=group,
    )
    if group.size > 1:
        parts = group.gather(accumulator.kept())
        accumulator = task.accumulator()
        for part in parts:
            accumulator.absorb(part)
    return accumulator.scores()
