"""Ours: the `best` settings with another criterion, through the engine's own cutting, of the whole model or its encoder alone."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
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

BOTH = {"parts": ["attention", "feed_forward"]}
CRITERION = "fisher_energy"
"""On validation the encoder of 6.48 M is nearer to the original than by the preset's `fisher_gate`, whose gates are summed over
all frames of a window before they are squared."""
GRANULARITY = "head_and_channel"
NEURONS = "brain_surgeon"
"""As the preset has it; said because the preset's own is for its own criterion alone."""
ONE_DRAW = {"calibration": {"draws": 1}}
"""For four times as many clips, which then take as many backward passes as the preset's four draws of each."""
SHORT = Finetune(epochs=1, learning_rate=3e-4, batch_size=8, augment=None, distill=Distill())
"""One epoch of LoRA on the calibration clips."""


def spec(target: Mapping[str, float], changes: Mapping[str, Any]) -> EngineSpec:
    """One cut, by heads of any width: it is size that is compared."""
    pruning = {
        "target": dict(target),
        "schedule": {"steps": 1},
        "criterion": CRITERION,
        "granularity": GRANULARITY,
        "neuron_selection": NEURONS,
        **changes,
    }
    return EngineSpec.model_validate({"pruning": pruning, "finetune": None})


def encoder_alone(setup: Setup, parameters: int) -> tuple[dict[str, float], dict[str, Any]]:
    """(target, settings) that leave so many parameters in the encoder and the decoder as it is."""
    gone = encoder_parameters(setup.dense.model, setup.task) - parameters
    share = gone / accounting.total_parameters(setup.described.shape, setup.described.shape.dense)
    return {"parameters": share}, {**BOTH, "only": "encoder"}


class Cutter:
    """Cuts by any target. Attention and neurons are scored in one pass, once for all targets."""

    def __init__(self, setup: Setup, always: Mapping[str, Any] = MappingProxyType({})) -> None:
        """`always`: settings of all its cuts."""
        self._setup, self._always = setup, always
        self._scored: ScoredModel | None = None

    def _cutting(self, target: Mapping[str, float], changes: Mapping[str, Any]) -> Cutting:
        setup, reporter = self._setup, Reporter(lambda _event: None, 1, {})
        return Cutting(
            spec(target, {**self._always, **changes}), setup.described, setup.data, setup.task, CPU, reporter
        )

    def cut(self, target: Mapping[str, float], changes: Mapping[str, Any]) -> LoadedModel:
        """One-shot."""
        if self._scored is None:
            self._scored = self._cutting({"flops": 0.5}, BOTH).score(self._setup.dense, 1)
        cutting = self._cutting(target, changes)
        return cutting.prune(self._scored, cutting.spec.pruning.target.share)[0]

    def recovered(self, smaller: LoadedModel, *, feed_forward: bool) -> LoadedModel:
        """`smaller`, trained for SHORT as a job trains its first step. Its own weights change."""
        setup = self._setup
        projections = projections_by_name(attention_blocks(smaller.model, smaller.model_spec, smaller.widths))
        if feed_forward:
            for block in feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths):
                projections |= dict(zip(block.names, block.maps, strict=True))
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
