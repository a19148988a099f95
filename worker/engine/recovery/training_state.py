"""A recovery between two epochs, in one safetensors file: everything that the next epoch depends on.

Tensors: `parameter.NAME`, and AdamW's `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`, for every trained parameter (AdamW has none
for a parameter on which no loss depends, of which there are some if all weights are trained); `random.torch`, `random.data` and,
on a GPU, `random.cuda`, the states of the generators. Metadata: `training`, a Header as JSON. The learning rate follows from the
number of finished epochs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from api_schemas.base import StrictModel
from api_schemas.results.metrics import EpochLoss
from worker.engine.checkpoint.save import flush

_KEY = "training"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class TrainingIdentity(StrictModel):
    """What two attempts must agree on for one to go on where the other was."""

    format: Literal[1] = 1
    step: int
    seed: int
    batches: int
    """Of all epochs."""
    microbatch: int | None
    start: str
    """Digest of the settings and of the weights before training: another cut is another training."""


class Header(StrictModel):
    """What a file says of itself."""

    course: TrainingIdentity
    epoch: int
    """Epochs done."""
    losses: tuple[EpochLoss, ...]
    """Of those epochs."""
    digest: str
    """Of the tensors: safetensors has no checksum."""


class Unusable(Exception):
    """A file that cannot be gone on from, and why."""


def digest_of(tensors: Mapping[str, Tensor], *, also: str = "") -> str:
    """SHA-256, in hex, of names, dtypes, shapes and bytes of tensors on any device, in the order of names."""
    digest = hashlib.sha256(also.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class TrainingState:
    """The live objects of a training. `parameters` are the trained ones by name; `generator` draws order and augmentation."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    generator: torch.Generator
    device: torch.device

    def save(self, path: Path, identity: TrainingIdentity, losses: Sequence[EpochLoss]) -> None:
        """Write `path` whole or not at all, flushed to disk. Raises OSError or SafetensorError where it cannot be written."""
        tensors = {f"parameter.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"{key}.{name}": value for key, value in self.optimizer.state.get(parameter, {}).items()}
        tensors |= self._random()
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        header = Header(course=identity, epoch=len(losses), losses=tuple(losses), digest=digest_of(tensors))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        try:
            save_file(tensors, partial, metadata={_KEY: header.model_dump_json()})
            partial.chmod(0o644)
            flush(partial)
            partial.replace(path)
        finally:
            # On a disk that ran full, the half of it that was written must not stay.
            partial.unlink(missing_ok=True)
        flush(path.parent)

    def load(self, path: Path, identity: TrainingIdentity) -> tuple[EpochLoss, ...]:
        """Take everything over from a file of the training with this `identity`; returns the losses of the epochs that are done.

        Raises Unusable, and changes nothing, where the file is missing or damaged, of another training, or does not fit.
        """
        header, tensors = _read(path)
        if header.course != identity:
            theirs = header.course.model_dump()
            other = ", ".join(name for name, ours in identity.model_dump().items() if theirs[name] != ours)
            raise Unusable(f"it belongs to another training: {other} differs")
        if not 0 < header.epoch == len(header.losses):
            raise Unusable("its epochs and losses do not match")
        self._check(tensors)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter.{name}"])
                if f"step.{name}" in tensors:
                    self.optimizer.state[parameter] = {
                        # As AdamW makes them: its count of steps stays on the CPU.
                        key: tensors[f"{key}.{name}"].to(parameter.device if key != "step" else "cpu", copy=True)
                        for key in _MOMENTS
                    }
        self.generator.set_state(tensors["random.data"])
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        return header.losses

    def _random(self) -> dict[str, Tensor]:
        states = {"random.torch": torch.get_rng_state(), "random.data": self.generator.get_state()}
        if self.device.type == "cuda":
            states["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises Unusable unless names, dtypes and shapes are what this training has."""
        expected = {name: (state.dtype, state.shape) for name, state in self._random().items()}
        for name, parameter in self.parameters.items():
            expected[f"parameter.{name}"] = (parameter.dtype, parameter.shape)
            if any(f"{key}.{name}" in tensors for key in _MOMENTS):
                expected |= {f"{key}.{name}": (parameter.dtype, parameter.shape) for key in ("exp_avg", "exp_avg_sq")}
                expected[f"step.{name}"] = (torch.float32, torch.Size())
        found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        if found != expected:
            wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise Unusable(f"{len(wrong)} tensors do not match this model; the first is {wrong[0]}")


def _read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = Header.model_validate_json((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise Unusable(f"it cannot be read ({type(error).__name__})") from error
    if digest_of(tensors) != header.digest:
        raise Unusable("its contents have changed since it was written")
    return header, tensors
