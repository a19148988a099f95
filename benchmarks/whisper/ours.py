"""Ours: the `best` settings through the engine's own cutting, over the whole model or its encoder alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from api_schemas.enums import Split
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.recovery import Distill, Finetune
from benchmarks.whisper.judging import encoder_parameters
from benchmarks.whisper.setup import CPU, Setup
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.recovery import Teacher, finetune
from worker.engine.runtime.determinism import step_seed
from worker.engine.runtime.progress import Reporter

SHORT = Finetune(epochs=1, learning_rate=3e-4, batch_size=8, augment=None, distill=Distill())
"""One epoch of LoRA on the calibration clips."""


def spec(target: Mapping[str, float], changes: Mapping[str, Any]) -> EngineSpec:
    """One cut."""
    pruning = {"target": dict(target), "schedule": {"steps": 1}, **changes}
    return EngineSpec.model_validate({"pruning": pruning, "finetune": None})


def encoder_alone(setup: Setup, parameters: int) -> tuple[dict[str, float], dict[str, Any]]:
    """(target, settings) that leave so many parameters in the encoder and the decoder as it is."""
    layers = {block.layer for block in setup.described.shape.attention}
    decoder = sorted(layers - set(range(setup.dense.model.config.encoder_layers)))
    gone = encoder_parameters(setup.dense.model, setup.task) - parameters
    share = gone / accounting.total_parameters(setup.described.shape, setup.described.shape.dense)
    return {"parameters": share}, {"parts": ["attention", "feed_forward"], "exclude_layers": decoder}


class Cutter:
    """Cuts by any target; what is scored alike is scored once."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._scored: dict[str, ScoredModel] = {}

    def cut(self, target: Mapping[str, float], changes: Mapping[str, Any]) -> LoadedModel:
        """One-shot."""
        setup, asked = self._setup, spec(target, changes)
        reporter = Reporter(lambda _event: None, 1, {})
        cutting = Cutting(asked, setup.described, setup.data, setup.task, CPU, reporter)
        pruning = asked.pruning
        key = f"{pruning.criterion} {pruning.basis} {sorted(pruning.cuts)} {pruning.calibration} {pruning.compensation}"
        if key not in self._scored:
            self._scored[key] = cutting.score(setup.dense, 1)
        return cutting.prune(self._scored[key], asked.pruning.target.share)[0]

    def recovered(self, smaller: LoadedModel, *, feed_forward: bool) -> LoadedModel:
        """`smaller`, trained for SHORT as a job trains its first step. Its own weights change."""
        setup = self._setup
        projections = projections_by_name(attention_blocks(smaller.model, smaller.model_spec, smaller.widths))
        if feed_forward:
            for block in feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths):
                projections |= dict(zip(block.names, (block.first, block.second), strict=True))
        model, _ = finetune(
            smaller.model,
            setup.data.splits[Split.TRAIN],
            SHORT,
            projections=projections,
            classifiers=smaller.model_spec.classifiers,
            task=setup.task,
            pad_value=setup.data.pad_value,
            seed=step_seed(0, 1, "finetune"),
            device=CPU,
            on_batch=lambda _done, _total: None,
            on_epoch=lambda _loss: None,
            teacher=Teacher(setup.dense.model),
        )
        return replace(smaller, model=model)
