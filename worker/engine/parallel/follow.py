"""What a process other than the first does in a job: its part of scoring, recovery and evaluation, and nothing else.

The first process decides, cuts, times, writes and reports (worker/engine/job.py). At every shared computation, the others have
reached the same point: each method here is the counterpart of one there. A cut model comes from the first process, so no two
differ, however a device rounds least squares.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from api_schemas.enums import Split
from api_schemas.results.metrics import JobResult, StepMetrics
from api_schemas.spec.job import EngineSpec
from checkpoints.sizes.cost_model import analyses
from worker.engine.checkpoint.load import LoadedModel, load_step
from worker.engine.evaluate.measure import Measure
from worker.engine.models.model_spec import move_model
from worker.engine.parallel.group import Group
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.pruning.selection import Selection
from worker.engine.recovery.recover import Recovery


def portable(loaded: LoadedModel) -> LoadedModel:
    """A copy on the CPU, to be sent; the model itself where it lies there."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in loaded.model.parameters())
    return loaded if on_cpu else replace(loaded, model=move_model(copy.deepcopy(loaded.model), torch.device("cpu")))


@dataclass(frozen=True)
class Follower:
    """One of the processes that are not the first."""

    spec: EngineSpec
    group: Group
    cutting: Cutting
    measure: Measure
    recovery: Recovery

    def baseline(self) -> tuple[StepMetrics, Selection, ScoredModel | None]:
        """The other side of Job.baseline, with what that returns."""
        dense = self.measure.dense
        self.measure.scores(dense, Split.VALIDATION)
        self.measure.scores(dense, Split.TEST)
        scored = self.cutting.score(dense, 1) if analyses(self.spec) else None
        metrics, kept = self._from_first()
        return metrics, kept, scored

    def step(
        self,
        number: int,
        _target: float,
        before: LoadedModel,
        _history: Sequence[StepMetrics],
        _kept: Selection,
        *,
        last: bool,  # noqa: ARG002 - the first process says what is measured at the end
        scored: ScoredModel | None = None,
    ) -> tuple[StepMetrics, Selection, JobResult | None]:
        """The other side of Job.step, with what that returns."""
        if scored is None:
            self.cutting.score(before, number)
        smaller: LoadedModel = self._from_first()
        unrecovered = None
        if self.spec.finetune is not None:
            unrecovered = self.measure.scores(smaller, Split.VALIDATION)
        self.recovery.recover(smaller, number, unrecovered)
        self.group.wait()
        written = load_step(self.recovery.out / f"step-{number}")
        self.measure.scores(written, Split.VALIDATION)
        chosen: Path | None = self._from_first()
        if chosen is not None:
            self.measure.scores(written if chosen.name == f"step-{number}" else load_step(chosen), Split.TEST)
        metrics, kept, result = self._from_first()
        return metrics, kept, result

    def _from_first(self) -> Any:
        return self.group.from_first(None)
