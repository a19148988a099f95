"""Handles running out of memory in training, and finds out what would fit.

Scoring and evaluation are not probed: they hold sums over batches that a probe would spoil, and they need less memory.
"""

import gc
import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from api_schemas.errors import ErrorCode, SecateurError
from worker.engine.data.split import Inputs, rows
from worker.engine.recovery.objective import Batch, Objective, divided
from worker.engine.runtime.memory import shortage

log = logging.getLogger(__name__)


def gradient(objective: Objective, passes: Sequence[Batch]) -> Tensor:
    """As Objective.backward. Where memory runs out, OUT_OF_MEMORY that says how many samples do fit: the job ends there."""
    try:
        return objective.backward(passes)
    except Exception as error:
        if not _no_memory(error):
            raise
        log.warning("%s", "".join(traceback.format_exception(error)))
    mine = [objective.group.own(*batch) for batch in passes]
    # Out here the exception is gone, and with it the frames that held the tensors of the pass.
    said = _what_fits(objective.alone(), *max(mine, key=_held), processes=objective.group.size)
    raise SecateurError(ErrorCode.OUT_OF_MEMORY, said)


def _held(batch: Batch) -> int:
    """Values of a batch's inputs: of the passes of a batch, the one with the most takes the most memory."""
    return sum(tensor.numel() for tensor in batch[0].values())


def _no_memory(error: Exception) -> bool:
    found = shortage(error)
    return found is not None and found[0] is ErrorCode.OUT_OF_MEMORY


def _what_fits(objective: Objective, inputs: Inputs, targets: Tensor, *, processes: int) -> str:
    """A half, a quarter, … of the samples, forward and backward and no step, until a pass goes through. Told in samples of all
    `processes`, each of which has as many.
    """
    tried = objective.at_once(rows(inputs))
    said, size = f"Fine-tuning ran out of memory with {tried * processes} samples at a time.", tried // 2
    while size:
        if _fits(objective, *next(divided(inputs, targets, size))):
            return f"{said} A batch of {size * processes} samples at a time fits; lower finetune.batch_size to that."
        size //= 2
    return f"{said} Not even one sample at a time fits: {_memory(objective.device)}."


def _fits(objective: Objective, inputs: Inputs, targets: Tensor) -> bool:
    _release(objective)
    try:
        objective.backward([(inputs, targets)])
    except Exception as error:
        if not _no_memory(error):
            raise
        return False
    return True


def _release(objective: Objective) -> None:
    objective.forget()
    gc.collect()
    if objective.device.type == "cuda":
        torch.cuda.empty_cache()


def _memory(device: torch.device) -> str:
    """What there is, in GiB: of the GPU, or of the host as Linux tells it."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / 2**30:.1f} of the GPU's {total / 2**30:.1f} GiB are free"
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "the host does not report its memory"
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return f"{kib['MemAvailable'] / 2**20:.1f} of the host's {kib['MemTotal'] / 2**20:.1f} GiB are available"
