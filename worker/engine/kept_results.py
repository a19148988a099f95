"""Results that earlier jobs computed for the same model and data, found in the cache folder by a hash of all their inputs.

Only results that are the same to the last bit whichever job computes them: scores of the model as it came, and statistics of its
first step. A name is the hash of everything that goes in (docs/adr/0047-what-jobs-share.md); an entry that cannot be read is
computed again.
"""

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from api_schemas.enums import Split
from api_schemas.results.metrics import Scores
from worker.engine.data.cache import MANIFEST, touch, writing
from worker.engine.parallel.group import ALONE, Group
from worker.engine.runtime.mapped import mapped_copy
from worker.engine.scoring import observations
from worker.engine.scoring.observations import Observations

log = logging.getLogger(__name__)

T = TypeVar("T")
# Raise it where a change of the engine changes what is stored, or its numbers.
FORMAT = 1
TENSORS = "tensors.safetensors"
_LIBRARIES = ("secateur", "torch", "transformers", "numpy", "safetensors")
_CLASSES = {
    each.__name__: each for each in vars(observations).values() if isinstance(each, type) and is_dataclass(each)
}


@dataclass(frozen=True)
class KeptResults:
    """`common`: what every result here depends on."""

    folder: Path
    common: str
    group: Group = ALONE
    """Who computes together: the first of them looks, and keeps."""
    _used: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, folder: Path, model: Path, features: str, device: torch.device, batch_size: int, group: Group = ALONE
    ) -> "KeptResults":
        """Of a job: its model's folder, the name of its prepared inputs, samples of one pass of evaluation."""
        files = sorted(path for path in model.rglob("*") if path.is_file())
        told = {
            "format": FORMAT,
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in _LIBRARIES},
            "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
            "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
            "threads": torch.get_num_threads(),
            "batch_size": batch_size,
            "processes": group.size,
            "features": features,
            "model": {path.relative_to(model).as_posix(): _digest(path) for path in files},
        }
        return cls(folder, json.dumps(told, sort_keys=True), group)

    def used(self, *more: str) -> tuple[str, ...]:
        """What was found since this was asked last, as StepMetrics.reused has it; `more` was found elsewhere."""
        found = (*more, *self._used)
        self._used.clear()
        return found

    def scores(self, split: Split, compute: Callable[[], Scores]) -> tuple[Scores, bool]:
        """Of the original model on a whole split, and whether they were there already."""

        def read(entry: Path) -> Scores:
            return Scores.model_validate_json((entry / MANIFEST).read_bytes())

        def write(scores: Scores, entry: Path) -> None:
            (entry / MANIFEST).write_text(scores.model_dump_json())

        return self._found("scores", split.value, {"split": split.value}, compute, read, write)

    def observations(self, of: Mapping[str, Any], compute: Callable[[], Observations]) -> tuple[Observations, bool]:
        """Of the original model in its own basis."""

        def read(entry: Path) -> Observations:
            tensors = load_file(entry / TENSORS)
            found = _decoded(json.loads((entry / MANIFEST).read_bytes()), tensors)
            if not isinstance(found, Observations):
                raise ValueError(f"{entry.name} holds no observations")
            return found

        def write(observed: Observations, entry: Path) -> None:
            tensors: dict[str, Tensor] = {}
            told = _encoded(observed, tensors)
            save_file(tensors, entry / TENSORS)
            (entry / MANIFEST).write_text(json.dumps(told))

        return self._found("statistics", "statistics", of, compute, read, write)

    def _found(
        self,
        kind: str,
        told_as: str,
        of: Mapping[str, Any],
        compute: Callable[[], T],
        read: Callable[[Path], T],
        write: Callable[[T, Path], None],
    ) -> tuple[T, bool]:
        name = hashlib.sha256(f"{self.common}\n{json.dumps(dict(of), sort_keys=True)}".encode()).hexdigest()[:32]
        entry = self.folder / f"{kind}-{name}"
        found = self.group.first_does(lambda: _read(entry, read))
        if found is not None:
            self._used.append(told_as)
            return found, True
        made = compute()
        if not self.group.first:
            return made, False
        try:
            with writing(entry) as folder:
                write(made, folder)
        except (OSError, SafetensorError):  # what safetensors cannot write is no OSError
            # Nobody needs it: a disk that is full will be noticed by who does.
            log.warning("%s could not be cached", entry.name, exc_info=True)
        return made, False


def _read(entry: Path, read: Callable[[Path], T]) -> T | None:
    if not entry.exists():
        return None
    try:
        found = read(entry)
        touch(entry)
    except Exception:
        log.warning("%s cannot be read and is computed again", entry.name, exc_info=True)
        shutil.rmtree(entry, ignore_errors=True)
        return None
    log.info("%s already existed", entry.name)
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """As JSON, tensors by their numbers in `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = mapped_copy(value.detach().cpu())
        return {"tensor": name}
    if isinstance(value, tuple):
        return [_encoded(each, tensors) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: _encoded(getattr(value, each.name), tensors) for each in fields(value)}
        return {"class": type(value).__name__, "fields": own}
    return value


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(each, tensors) for each in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        # Copied, so that it begins where a computed one does: products of some sizes differ in their last bits elsewhere.
        return mapped_copy(tensors[value["tensor"]])
    made = _CLASSES[value["class"]]
    return made(**{name: _decoded(each, tensors) for name, each in value["fields"].items()})
