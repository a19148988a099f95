"""After the cut: one epoch of LoRA, the same for every arm; and the paper's iterative job as a whole."""

import tempfile
from dataclasses import replace
from pathlib import Path

from torch import nn

from api_schemas.enums import Split
from api_schemas.results.events import EngineEvent, StepDone
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.recovery import Distill, Finetune
from benchmarks.race.arms.sliced_llama import SlicedLlama
from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel, load_step
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.recovery import Teacher, finetune
from worker.engine.run import Inputs, run
from worker.engine.runtime.determinism import step_seed

ONE_EPOCH = Finetune(epochs=1, learning_rate=1e-3)
"""The recovery budget of the race. Of 3e-4 and 1e-3, what did better on validation, for all arms alike."""
DISTILL = Distill()


def recover(setup: Setup, smaller: LoadedModel, seed: int, settings: Finetune) -> LoadedModel:
    """`smaller`, trained as a job with this seed trains its first step: what is raced gets adapters. Its own weights change."""
    adapted = _adapted(setup, smaller)
    model, _ = finetune(
        smaller.model,
        setup.split(Split.TRAIN),
        settings,
        projections=adapted,
        classifiers=smaller.model_spec.classifiers,
        task=setup.task,
        pad_value=setup.data.pad_value,
        seed=step_seed(seed, 1, "finetune"),
        device=setup.device,
        on_batch=lambda _done, _total: None,
        on_epoch=lambda _loss: None,
        teacher=Teacher(setup.dense.model) if settings.distill else None,
    )
    return replace(smaller, model=model)


def _adapted(setup: Setup, smaller: LoadedModel) -> dict[str, nn.Linear]:
    """By module path, the maps that adapters go on."""
    if isinstance(smaller.model, SlicedLlama):
        maps = {name: each for name, each in smaller.model.named_modules() if isinstance(each, nn.Linear)}
        return {name: each for name, each in maps.items() if each is not smaller.model.lm_head}
    adapted = projections_by_name(attention_blocks(smaller.model, smaller.model_spec, smaller.widths))
    if setup.whole:
        for pair in feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths):
            adapted |= dict(zip(pair.names, pair.maps, strict=True))
    return adapted


def paper_job(target: float, seed: int) -> EngineSpec:
    """The `paper` preset: whole heads by Fisher on validation, a step for every 10%, three epochs of LoRA after each."""
    return EngineSpec.model_validate(
        {
            "pruning": {"preset": "paper", "target": {"attention_sparsity": target}},
            "finetune": {"epochs": 3, "learning_rate": 1e-3},
            "seed": seed,
        }
    )


def iterate(setup: Setup, data: Path, cache: Path, spec: EngineSpec, threads: int) -> LoadedModel:
    """A whole job of the engine; returns the model of its last step, read back from its folder."""
    with tempfile.TemporaryDirectory(prefix="race-") as scratch:
        steps: list[StepDone] = []

        def emit(event: EngineEvent) -> None:
            if isinstance(event, StepDone):
                steps.append(event)

        inputs = Inputs(setup.model, data, Path(scratch), cache, device=str(setup.device), threads=threads)
        run(inputs, spec, emit)
        return load_step(Path(scratch) / steps[-1].folder)
