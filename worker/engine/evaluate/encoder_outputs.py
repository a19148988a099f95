"""An encoder's outputs on a split, kept for the next model with the same encoder, of which only the decoder was cut."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from worker.engine.data.split import FeatureSplit, Inputs, rows
from worker.engine.tasks import Task

MOST_BYTES = 512 * 2**20
"""What is larger is not kept, and computed for every model anew."""


def fingerprint(module: nn.Module) -> str:
    """Of all weights and buffers, names included: equal where they are equal bit by bit."""
    total = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


@dataclass
class EncoderOutputs:
    """Of one split, by the encoder that heard it last. On the CPU."""

    keeps: bool = True
    _encoder: str = ""
    _split: FeatureSplit | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)
    """What the encoder gave, by name, [N, …]; what is given to the decoder anyway is not kept."""
    _known: Tensor | None = None
    """[N], whether a row has been heard."""

    def begin(self, task: Task, model: nn.Module, split: FeatureSplit) -> None:
        """`model` is next. What is kept stays where it would come to the same."""
        encoder = task.encoder(model) if self.keeps else None
        found = "" if encoder is None else fingerprint(encoder)
        if found != self._encoder or split is not self._split:
            self._encoder, self._split, self._kept = found, split, {}
            self._known = torch.zeros(len(split), dtype=torch.bool) if found else None

    def encoded(self, task: Task, model: nn.Module, numbers: Tensor, inputs: Inputs) -> Inputs:
        """`Task.encoded` of rows `numbers` of the split."""
        if self._known is None:
            return task.encoded(model, inputs)
        if self._kept and bool(self._known[numbers].all()):
            given = {name: tensor for name, tensor in inputs.items() if name in task.given}
            device = next(iter(inputs.values())).device
            return {name: kept[numbers].to(device) for name, kept in self._kept.items()} | given
        found = task.encoded(model, inputs)
        new = {name: tensor for name, tensor in found.items() if name not in inputs}
        if len(self._known) * sum(tensor.nbytes for tensor in new.values()) > MOST_BYTES * rows(inputs):
            self._known = None
            return found
        for name, tensor in new.items():
            kept = self._kept.setdefault(name, torch.empty(len(self._known), *tensor.shape[1:], dtype=tensor.dtype))
            kept[numbers] = tensor.cpu()
        self._known[numbers] = True
        return found
