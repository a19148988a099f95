"""The setup: what every arm gets alike. The dense model, the data, and the same calibration samples by seed."""

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from api_schemas.enums import Head, Split
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.inputs import Columns, Splits
from benchmarks.race.counting import flops, parameters_of_maps
from checkpoints.describe import Checkpoint, describe_folder
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.data import FeatureSplit, PreparedData, prepare
from worker.engine.data.loader import BatchLoader
from worker.engine.data.split import Inputs
from worker.engine.models.model_spec import move_model
from worker.engine.runtime.determinism import step_seed
from worker.engine.tasks import Classification, Loss, Task

Made = TypeVar("Made")


class Unit(StrEnum):
    """What a race's targets are shares of. But for attention alone, attention and feed-forward blocks are cut together."""

    ATTENTION = "attention"
    """Parameters of q, k, v and o in all layers."""
    FLOPS = "flops"
    """FLOPs of the whole model."""
    BLOCKS = "blocks"
    """Parameters of all maps in attention and feed-forward blocks; embeddings, norms and heads are apart."""


KEPT_IN_MEMORY = 6
"""Results of scoring that stay at hand, the last used: arms are run family by family."""


class Unreachable(Exception):
    """The arm's structures do not reach the target; says how far they reach."""


@dataclass
class Setup:
    """One race: a dense checkpoint, its data, and how calibration samples are drawn."""

    model: Path
    described: Checkpoint
    dense: LoadedModel
    data: PreparedData
    device: torch.device
    calibration_samples: int
    identity: dict[str, Any]
    """What of checkpoint and data decides a cell's outcome."""
    task: Task = field(default_factory=lambda: Classification(several=False))
    unit: Unit = Unit.ATTENTION
    _made: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Feed-forward blocks are cut as well."""
        return self.unit is not Unit.ATTENTION

    def split(self, role: Split) -> FeatureSplit:
        return self.data.splits[role]

    def calibration(self, seed: int) -> FeatureSplit:
        """The samples of TRAIN on which every arm scores, rotates and refits, drawn as a job with this seed draws them."""

        def draw() -> FeatureSplit:
            train = self.split(Split.TRAIN)
            generator = torch.Generator().manual_seed(step_seed(seed, 1, "calibration"))
            order = torch.randperm(len(train), generator=generator)
            return train.subset(order[: self.calibration_samples].sort().values)

        return self.once(("calibration", seed), draw)

    def batches(self, split: FeatureSplit, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """The split in order, on the device."""
        return BatchLoader(split, self.device).batches(split.batches(size))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The task's loss, one number a sample."""
        return self.task.loss(logits, targets)

    def scoring_loss(self, seed: int) -> Loss:
        """What gradients are taken of: the loss; but an original is at the minimum of its own embeddings', which are sampled."""
        if self.task.head is Head.EMBEDDING:
            return self.task.sampled_label_loss(step_seed(seed, 1, "labels"))
        return self.task.loss

    def share_gone(self, widths: AttentionWidths) -> float:
        """Share of the dense model that is gone at these widths, in the unit of the race's targets."""
        shape = self.described.shape
        match self.unit:
            case Unit.ATTENTION:
                return accounting.attention_sparsity(shape, widths)
            case Unit.FLOPS:
                return 1.0 - accounting.total_flops(shape, widths) / accounting.total_flops(shape, shape.dense)
        return 1.0 - block_parameters(shape, widths) / block_parameters(shape, shape.dense)

    def aim(self, target: float) -> dict[str, Any]:
        """The part of a job's `pruning` that asks for this share of the race's unit."""
        if not self.whole:
            return {"target": {"attention_sparsity": target}}
        parts = ("attention", "feed_forward")
        if self.unit is Unit.FLOPS:
            return {"target": {"flops": target}, "parts": parts}
        shape = self.described.shape
        share = target * block_parameters(shape, shape.dense) / accounting.total_parameters(shape, shape.dense)
        return {"target": {"parameters": share}, "parts": parts}

    def sparsity(self, loaded: LoadedModel) -> float:
        """The same of a cut model; FLOPs are counted as it runs and parameters of blocks as it has them, whatever its widths are
        said to be.
        """
        match self.unit:
            case Unit.ATTENTION:
                return self.share_gone(loaded.widths)
            case Unit.FLOPS:
                dense = self.once(
                    "dense FLOPs", lambda: flops(self.dense.model, self.described.shape.attention[0].queries)
                )
                return 1.0 - flops(loaded.model, self.described.shape.attention[0].queries) / dense
        return 1.0 - parameters_of_maps(loaded.model) / parameters_of_maps(self.dense.model)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns, remembered: scoring is done once for all shares of an arm family and seed."""
        found: Made = self._made.pop(key) if key in self._made else make()
        self._made[key] = found
        while len(self._made) > KEPT_IN_MEMORY:
            self._made.pop(next(iter(self._made)))
        return found


def block_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """Weights and biases of every map in attention and feed-forward blocks."""
    return accounting.attention_parameters(shape, widths) + accounting.feed_forward_parameters(shape, widths)


def digest(folder: Path, *, content: bool) -> str:
    """Of the names and sizes of a folder's files and, where asked, of their bytes."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)}:{path.stat().st_size}\n".encode())
        if content:
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def load_setup(
    model: Path, data: Path, cache: Path, *, device: str, calibration_samples: int, measured_samples: int | None,
    training_samples: int | None = None,
) -> Setup:  # fmt: skip
    """Read checkpoint and data; features come from `cache` where they are there already.

    `measured_samples` keeps only so many clips, drawn at random, of validation and test each; `training_samples` of train.
    Raises ValueError for a checkpoint with several labels a clip: intervals here are those of an accuracy.
    """
    described = describe_folder(model)
    if described.multi_label:
        raise ValueError("the race compares accuracies; this checkpoint gives several labels a clip")
    prepared = prepare(
        data, model, labels=described.labels, multi_label=False, columns=Columns(), splits=Splits(), seed=0,
        cache_dir=cache, progress=lambda _done, _total: None,
    )  # fmt: skip
    splits = dict(prepared.splits)
    limits = {Split.VALIDATION: measured_samples, Split.TEST: measured_samples, Split.TRAIN: training_samples}
    for role, limit in limits.items():
        if limit is not None:
            order = torch.randperm(len(splits[role]), generator=torch.Generator().manual_seed(0))
            splits[role] = splits[role].subset(order[:limit].sort().values)
    prepared = PreparedData(prepared.summary, splits, prepared.pad_value)
    dense, where = load_original(model), torch.device(device)
    move_model(dense.model, where)
    identity = {
        "model": digest(model, content=True),
        "data": digest(data, content=False),
        "calibration": calibration_samples,
        "measured": measured_samples,
    }
    if training_samples is not None:
        identity["training"] = training_samples
    return Setup(model, described, dense, prepared, where, calibration_samples, identity)
