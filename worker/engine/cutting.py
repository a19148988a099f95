"""From a model and a target to a smaller model: draw calibration samples, score, select, cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from api_schemas.checkpoint import Checkpoint
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec import EngineSpec
from worker.engine.attention import attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.determinism import step_seed
from worker.engine.evaluate import per_sample_loss
from worker.engine.models import on_device
from worker.engine.progress import Reporter
from worker.engine.scoring import WANTS, LayerScores, observe, score
from worker.engine.selection import Keep, select, widths_of
from worker.engine.surgery import cut

SCORING_BATCH = 8
"""Samples that pass through the model together."""


@dataclass(frozen=True)
class Cutting:
    """How a job scores and cuts; the same for every step."""

    spec: EngineSpec
    described: Checkpoint
    data: PreparedData
    device: torch.device
    reporter: Reporter

    def score(self, loaded: Loaded, step: int) -> tuple[tuple[LayerScores, ...], int]:
        """Channel scores by the job's criterion, and the number of samples they rest on.

        Raises NUMERICAL where they are not finite.
        """
        blocks = attention_blocks(on_device(loaded.model, self.device), loaded.family, loaded.widths)
        calibration = self._calibration(step_seed(self.spec.seed, step, "calibration"))
        observed, samples = None, 0
        if calibration is not None:
            samples = len(calibration)
            observed = observe(
                loaded.model,
                blocks,
                self._batches(calibration),
                lambda logits, targets: per_sample_loss(logits, targets, self.described.multi_label),
                WANTS[self.spec.pruning.criterion],
                lambda done: self.reporter.progress(done, samples),
            )
        seed = step_seed(self.spec.seed, step, "random")
        scores = score(self.spec.pruning.criterion, blocks, observed=observed, seed=seed)
        if not all(torch.isfinite(vector).all() for layer in scores for vector in (*layer.qk, *layer.vo)):
            raise SecateurError(
                ErrorCode.NUMERICAL,
                "The scores are not finite: the loss or its gradients overflow on the calibration data.",
            )
        return scores, samples

    def prune(self, loaded: Loaded, scores: Sequence[LayerScores], share: float) -> tuple[Loaded, Keep]:
        """The model with `share` of the original gone, in the target's unit, and what it kept of `loaded`."""
        pruning, shape = self.spec.pruning, self.described.shape
        keep = select(scores, loaded.widths, shape, pruning, share=share)
        smaller = cut(loaded.model, loaded.family, loaded.widths, keep)
        return replace(loaded, model=smaller, widths=widths_of(keep, loaded.widths.head_dim)), keep

    def _calibration(self, seed: int) -> FeatureSplit | None:
        """The samples to score on, or None where the criterion needs none."""
        if not WANTS[self.spec.pruning.criterion]:
            return None
        settings = self.spec.pruning.calibration
        split = self.data.splits[settings.split]
        if settings.samples is None or settings.samples >= len(split):
            return split
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        return split.subset(order[: settings.samples].sort().values)

    def _batches(self, split: FeatureSplit) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(split), SCORING_BATCH):
            inputs, targets = split.batch(range(start, min(start + SCORING_BATCH, len(split))))
            yield inputs.to(self.device), targets.to(self.device)
