"""Recovery within a job: takes a step's model, returns the model that is kept, and reports what fine-tuning did to it."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from api_schemas.enums import FinetuneMethod, Part, Split
from api_schemas.results.events import Loss, TrainingSaved
from api_schemas.results.metrics import EpochLoss, Scores, UnfinishedEpoch
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import Checkpoint
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import PreparedData
from worker.engine.data.augment import augmentation
from worker.engine.evaluate.measure import Measure
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.models.model_spec import move_model
from worker.engine.parallel.group import ALONE, Group
from worker.engine.recovery import CheckpointSettings, Teacher, finetune
from worker.engine.runtime.determinism import step_seed
from worker.engine.runtime.progress import Reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecoveryResult:
    """What fine-tuning did in a step."""

    losses: tuple[EpochLoss, ...] = ()
    ranks: dict[str, int] = field(default_factory=dict)
    """Ranks of the adapters in the weights that were kept."""
    augmented: bool = False
    rejected: Scores | None = None


@dataclass(frozen=True)
class Recovery:
    """How a job recovers; the same for every step."""

    spec: EngineSpec
    described: Checkpoint
    data: PreparedData
    device: torch.device
    reporter: Reporter
    measure: Measure
    out: Path
    """The job's folder: a running recovery is saved in `training/` there."""
    save_seconds: float
    """Minimum time between two saves."""
    earlier: Mapping[int, Path]
    """By step, what an earlier attempt may have saved of its recovery."""
    microbatch: int | None = None
    """The maximum number of samples per pass."""
    group: Group = ALONE
    """The processes that train together."""

    def recover(self, loaded: LoadedModel, step: int, before: Scores | None) -> tuple[LoadedModel, RecoveryResult]:
        """Fine-tune with adapters, merged. Does nothing if the spec requests no fine-tuning.

        `before` are the scores of `loaded` on validation, needed if something is trained: if the spec says so, `loaded` is
        returned when training makes them worse.
        """
        settings, adapted = self.spec.finetune, self.adapted(loaded)
        if settings is None:
            return loaded, RecoveryResult()
        if settings.method is FinetuneMethod.LORA and not adapted and not loaded.model_spec.classifiers:
            log.warning("step %d: nothing is left that adapters could train; the step stays as it was cut", step)
            return loaded, RecoveryResult()
        # Training changes the model in place.
        spare = copy.deepcopy(loaded.model) if settings.only_if_better else None
        losses: list[EpochLoss] = []

        def on_epoch(loss: EpochLoss) -> None:
            losses.append(loss)
            told = loss.model_dump(include={"epoch", "train_loss", "points"})
            self.reporter.emit(Loss(step=step, epochs=settings.epochs, **told))
            self.reporter.training = None

        def on_points(epoch: UnfinishedEpoch) -> None:
            self.reporter.training = epoch

        train = self.data.splits[Split.TRAIN]
        augmented = augmentation(settings.augment, train, self.data.pad_value) is not None
        model, ranks = finetune(
            loaded.model,
            train,
            settings,
            projections=adapted,
            classifiers=loaded.model_spec.classifiers,
            task=self.measure.task,
            pad_value=self.data.pad_value,
            seed=step_seed(self.spec.seed, step, "finetune"),
            device=self.device,
            on_batch=self.reporter.progress,
            on_epoch=on_epoch,
            on_points=on_points,
            teacher=self._teacher(loaded) if settings.distill else None,
            microbatch=self.microbatch,
            checkpointing=self._checkpointing(step, settings.epochs, losses),
            group=self.group,
        )
        recovered = replace(loaded, model=model)
        if spare is not None and before is not None:
            after = self.measure.scores_on(recovered, self.data.splits[Split.VALIDATION])
            if after.rank < before.rank:
                return replace(loaded, model=spare), RecoveryResult(tuple(losses), {}, augmented, after)
        return recovered, RecoveryResult(tuple(losses), ranks, augmented)

    def adapted(self, loaded: LoadedModel) -> dict[str, nn.Linear]:
        """The modules that get adapters, by path: the projections of attention and, if neurons are cut, both feed-forward maps.

        Feed-forward maps also if no head is left in any layer and there is no classifier to train: nothing else could recover.
        """
        found = projections_by_name(attention_blocks(loaded.model, loaded.model_spec, loaded.widths))
        if Part.FEED_FORWARD in self.spec.pruning.cuts or not (found or loaded.model_spec.classifiers):
            for block in feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths):
                found |= dict(zip(block.names, block.maps, strict=True))
        return found

    def _checkpointing(self, step: int, epochs: int, losses: list[EpochLoss]) -> CheckpointSettings:
        """Reports saves to the job's listener. Epochs that need not be repeated are added to `losses`, and are not measured."""

        def on_saved(epoch: int, file: Path) -> None:
            name = file.relative_to(self.out).as_posix()
            self.reporter.emit(TrainingSaved(step=step, epoch=epoch, epochs=epochs, file=name))

        def on_resumed(before: Sequence[EpochLoss], done: int, total: int) -> None:
            losses.extend(before)
            self.reporter.skip_part(done, total)

        return CheckpointSettings(
            self.out / "training", step, self.save_seconds, self.earlier.get(step), on_saved, on_resumed
        )

    def _teacher(self, student: LoadedModel) -> Teacher:
        """The dense original, and the attention outputs that it and `student` both have."""
        dense = self.measure.dense
        blocks = attention_blocks(student.model, student.model_spec, student.widths)
        outputs = tuple(block.names["o"] for block in blocks if block.widths.heads)
        return Teacher(move_model(dense.model, self.device), outputs)
