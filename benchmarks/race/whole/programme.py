"""What is raced, and running it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from api_schemas.enums import Split
from benchmarks.race import machine, recovery
from benchmarks.race.arms import a3, corp, kwon, obs, ours, slicegpt, torch_pruning
from benchmarks.race.arms.arm import Arm
from benchmarks.race.cells import Cell, Stage, Store
from benchmarks.race.minilm import benchmark, sentences
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import BEST, Runner, select
from benchmarks.race.setup import Setup, Unit
from benchmarks.race.whole import tables

OURS = "ours"
REDRAWN = r"^ours/|^obs/obs|^a3/a3, U|^corp/|^slicegpt/"
"""Arms whose cut is made on further draws of calibration samples, too: ours and the peers that compensate."""

RECOVERED_ENCODER = (0.5,)
"""Shares of FLOPs after which the sentence encoder is recovered: it has a goal at a half."""


@dataclass(frozen=True)
class Programme:
    """Shares of FLOPs, and the draws of calibration samples; the first is everybody's."""

    targets: tuple[float, ...] = (0.25, 0.5, 0.67, 0.75, 0.8)
    seeds: tuple[int, ...] = (0, 1, 2)
    recovered: tuple[float, ...] = (0.75, 0.8)
    peers: int = 2
    """How many of others are recovered."""
    calibration: int = 512
    learning_rate: float = recovery.ONE_EPOCH.learning_rate


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    return (
        *ours.arms(whole=True), *obs.arms(), *a3.arms(whole=True), *corp.arms(whole=True), *slicegpt.arms(),
        *kwon.arms(whole=True), *torch_pruning.arms(whole=True),
    )  # fmt: skip


def load_encoder() -> Setup:
    """The sentence encoder of the attention race. Raises ValueError where its package is not installed."""
    return benchmark.load_setup(benchmark.checkpoint(), sentences.drawn(), Programme.calibration)


def as_whole(setup: Setup) -> Setup:
    """The setup with shares that are of the whole model's FLOPs; its cells are others than those of attention's race."""
    setup.unit = Unit.FLOPS
    setup.identity = {**setup.identity, "unit": "flops"}
    return setup


def strongest(cells: Iterable[Cell], target: float, count: int) -> list[str]:
    """The arms of others that one-shot did best on VALIDATION among those within a point of the target; one a family."""
    best: dict[str, tuple[float, str]] = {}
    for cell in cells:
        if cell.stage is Stage.ONE_SHOT and cell.target == target and cell.matched and cell.validation:
            found = best.get(cell.family, (-1.0, ""))
            best[cell.family] = max(found, (cell.validation.score, cell.arm))
    # A sliced model has no projections under the names that adapters go on.
    others = [value for family, value in best.items() if family not in (OURS, "dense", "slicegpt")]
    return [arm for _, arm in sorted(others, reverse=True)[:count]]


def run(setup: Setup, out: Path, programme: Programme, stages: Sequence[str], pattern: str) -> Runner:
    """What is missing of it."""
    runner = Runner(setup, Store(out))
    entered = select(all_arms(), pattern)
    runner.dense()
    if "one_shot" in stages:
        runner.one_shot(entered, programme.targets, programme.seeds[:1])
        runner.one_shot(select(entered, REDRAWN), programme.targets, programme.seeds)
    if "recovered" in stages:
        changed = {"distill": recovery.DISTILL, "learning_rate": programme.learning_rate}
        finetune = recovery.ONE_EPOCH.model_copy(update=changed)
        for target in programme.recovered:
            peers = strongest(runner.current(all_arms()), target, programme.peers)
            for arm in entered:
                if arm.name == BEST or arm.name in peers:
                    runner.recovered_cell(arm, target, programme.seeds[0], finetune, arm.name)
    return runner


def report(runner: Runner, setup: Setup, folder: Path, name: str) -> Path:
    """The page of both models, this one's part written anew."""
    packages = ("torch", "transformers", "peft", "numpy", "torch-pruning")
    found = tables.Part(
        name=name,
        machine=machine.describe(setup.device, packages),
        samples={role.value: len(setup.split(role)) for role in (Split.TRAIN, Split.VALIDATION, Split.TEST)},
        calibration=setup.calibration_samples,
    )
    return tables.write(folder, found, summarise(runner.current(all_arms())))


def race(
    setup: Setup, out: Path, results: Path | None, programme: Programme, stages: Sequence[str], pattern: str, name: str
) -> Path:
    """Run what is missing, then write the results of everything that is there; returns the page."""
    runner = run(as_whole(setup), out, programme, stages, pattern)
    return report(runner, setup, results or out, name)
