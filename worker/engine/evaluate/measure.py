"""Measures a model: the task's scores on a split, latency compared with the dense model, exact sizes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from api_schemas.enums import Split
from api_schemas.results.metrics import Latency, Scores, Size
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import Evaluate
from checkpoints.describe import Checkpoint
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.evaluate import evaluate, measure_latency
from worker.engine.evaluate.encoder_outputs import EncoderOutputs
from worker.engine.kept_results import KeptResults
from worker.engine.models.model_spec import move_model
from worker.engine.parallel.group import ALONE, Group
from worker.engine.runtime.memory import capped_batch_size
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Task


@dataclass(frozen=True)
class Measure:
    """The same measurements for every step of a job. `dense` is the model as it came, for the speed-up."""

    settings: Evaluate
    described: Checkpoint
    data: PreparedData
    dense: LoadedModel
    task: Task
    device: torch.device
    reporter: Reporter
    microbatch: int | None = None
    """The most samples of one pass that is not timed."""
    kept: KeptResults | None = None
    """Of earlier jobs with the same original."""
    encoder_outputs: EncoderOutputs = field(default_factory=EncoderOutputs)
    """Of what was measured last."""
    group: Group = ALONE
    """Who measures scores together."""

    def scores(self, loaded: LoadedModel, role: Split) -> Scores:
        """Loss and the task's metric on a whole split."""
        split, progress = self.data.splits[role], self.reporter.progress
        if self.kept is None or loaded is not self.dense:
            return self.scores_on(loaded, split, progress)
        scores, there = self.kept.scores(role, lambda: self.scores_on(loaded, split, progress))
        if there:
            progress(len(split), len(split))
        return scores

    def scores_on(
        self,
        loaded: LoadedModel,
        split: FeatureSplit,
        progress: Callable[[int, int], None] | None = None,
        *,
        texts: bool = True,
    ) -> Scores:
        """The same on any samples; `progress(done, total)` counts them. Without `texts`, the loss of a model that writes."""
        return evaluate(
            move_model(loaded.model, self.device),
            split,
            self.task,
            batch_size=capped_batch_size(self.settings.batch_size, self.microbatch),
            device=self.device,
            progress=progress,
            texts=texts,
            encoder_outputs=self.encoder_outputs,
            group=self.group,
        )

    def latency(self, loaded: LoadedModel) -> tuple[Latency, ...]:
        """Forward passes of `loaded` and the dense model, in turn, on validation samples; how sure their ratio is."""
        return measure_latency(
            move_model(self.dense.model, self.device),
            move_model(loaded.model, self.device),
            self.data.splits[Split.VALIDATION],
            batch_sizes=self.settings.latency_batch_sizes,
            runs=self.settings.latency_runs,
            seconds=self.settings.latency_seconds,
            device=self.device,
            progress=self.reporter.progress,
        )

    def size(self, widths: AttentionWidths, folder: Path) -> Size:
        """Counts from the widths; bytes of the safetensors files as they lie in `folder`."""
        shape = self.described.shape
        return Size(
            attention_parameters=accounting.attention_parameters(shape, widths),
            feed_forward_parameters=accounting.feed_forward_parameters(shape, widths),
            total_parameters=accounting.total_parameters(shape, widths),
            flops=accounting.total_flops(shape, widths),
            file_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        )
