"""What is raced on decoders, and running it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from api_schemas.enums import Head, Split
from api_schemas.results.metrics import DataSummary
from benchmarks.race import machine, recovery
from benchmarks.race.arms import flap, ours, sliced_llama, slimgpt, taylor
from benchmarks.race.arms.arm import Arm
from benchmarks.race.cells import Store
from benchmarks.race.decoder import tables, texts, trained
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import BEST, Runner, best_of, select
from benchmarks.race.setup import Setup, Unit, digest
from checkpoints.describe import describe_folder
from worker.engine.checkpoint.load import load_original
from worker.engine.data import PreparedData
from worker.engine.tasks import task_for

NAME = "trained"
PEERS = ("llm-pruner", "flap", "slicegpt", "slimgpt")
RECOVERED = (BEST, "ours/best, Fisher energy")
"""Of ours; of peers' families validation says which."""


@dataclass(frozen=True)
class Programme:
    """What is raced."""

    targets: tuple[float, ...] = (0.2, 0.3, 0.5)
    seeds: tuple[int, ...] = (0,)
    calibration: int = 256
    """Blocks that every arm gets: 64 tokens for every neuron of the trained model's blocks, as many as `best` would take."""
    blocks: Mapping[Split, int] = field(
        default_factory=lambda: {Split.TRAIN: 512, Split.VALIDATION: 128, Split.TEST: 320}
    )
    """Drawn at random of each split. Those of train are what calibration samples are drawn from, and the epoch of recovery."""
    batch: int = 8
    learning_rate: float = recovery.ONE_EPOCH.learning_rate


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    return (*ours.decoder_arms(), *taylor.arms(), *flap.arms(), *sliced_llama.arms(), *slimgpt.arms())


def load_setup(folder: Path, programme: Programme) -> Setup:
    """The setup of a Llama's folder. Raises ValueError where another model is there."""
    described, dense = describe_folder(folder), load_original(folder)
    if described.name != "LlamaForCausalLM" or described.architecture.head is not Head.CAUSAL_LM:
        raise ValueError(f"{described.name} is no LlamaForCausalLM, which the arms are written for")
    splits = {}
    for role, own in texts.drawn().items():
        ids = texts.blocks(folder, own)
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(texts.SEED))
        splits[role] = texts.as_split(ids[order[: programme.blocks[role]].sort().values])
    content = hashlib.sha256()
    for role in sorted(splits):
        content.update(splits[role].inputs["input_ids"].tobytes())  # type: ignore[union-attr]
    summary = DataSummary(samples={role.value: len(split) for role, split in splits.items()})
    identity = {
        "model": digest(folder, content=True),
        "data": content.hexdigest()[:16],
        "calibration": programme.calibration,
        "unit": Unit.BLOCKS.value,
    }
    return Setup(
        folder, described, dense, PreparedData(summary, splits, 0.0), torch.device("cpu"), programme.calibration,
        identity, task_for(described.architecture.head, dense.model.config), Unit.BLOCKS,
    )  # fmt: skip


def run(setup: Setup, out: Path, programme: Programme, stages: Sequence[str], pattern: str) -> Runner:
    """What is missing of it."""
    runner, arms = Runner(setup, Store(out)), all_arms()
    entered = select(arms, pattern)
    runner.dense()
    if "one_shot" in stages:
        runner.one_shot(entered, programme.targets, programme.seeds)
    if "recovered" in stages:
        changed = {
            "distill": recovery.DISTILL, "learning_rate": programme.learning_rate, "batch_size": programme.batch,
        }  # fmt: skip
        finetune = recovery.ONE_EPOCH.model_copy(update=changed)
        for target in programme.targets:
            cells = runner.current(arms)
            chosen = {*RECOVERED, *(best_of(cells, family, target) for family in PEERS)}
            for arm in entered:
                if arm.name in chosen:
                    runner.recovered_cell(arm, target, programme.seeds[0], finetune, arm.name)
    return runner


def _frequency_perplexity(setup: Setup) -> float:
    vocabulary: Any = setup.dense.model.config.vocab_size
    train = texts.blocks(setup.model, texts.drawn()[Split.TRAIN])
    test, _ = setup.split(Split.TEST).batch(range(len(setup.split(Split.TEST))))
    return texts.frequency_perplexity(train, test["input_ids"], int(vocabulary))


def race(
    model: Path, cache: Path, out: Path, results: Path | None, programme: Programme, stages: Sequence[str],
    pattern: str, name: str | None,
) -> Path:  # fmt: skip
    """Run what is missing, then write the results of everything that is there; returns the page."""
    made = model == Path(NAME)
    folder = trained.checkpoint(cache) if made else model
    setup = load_setup(folder, programme)
    runner = run(setup, out, programme, stages, pattern)
    shape = setup.described.shape
    header = tables.Header(
        name=name or (NAME if made else model.resolve().name),
        made=made,
        machine=machine.describe(setup.device, ("torch", "transformers", "peft", "numpy")),
        samples={role.value: len(setup.split(role)) for role in (Split.TRAIN, Split.VALIDATION, Split.TEST)},
        programme=programme,
        block=texts.BLOCK,
        parameters=tables.Parameters.of(shape),
        frequencies=_frequency_perplexity(setup),
    )
    return tables.write(results or out, header, summarise(runner.current(all_arms())))
