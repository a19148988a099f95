"""Running cells: one-shot for every arm, then recovery for the few that validation picks, then the paper's iterative job."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from api_schemas.enums import Split
from api_schemas.spec.recovery import Finetune
from benchmarks.race import recovery
from benchmarks.race.arms.arm import Arm
from benchmarks.race.cells import Cell, Stage, Status, Store, key_of
from benchmarks.race.evaluation import measure
from benchmarks.race.setup import Setup, Unreachable
from worker.engine.checkpoint.load import LoadedModel

DENSE = "dense"
BEST = "ours/best"
VALIDATED = 0
"""The seed whose models are measured on validation too."""
PAPER_JOB = "paper preset, 5 steps × 3 epochs"


class Runner:
    """A setup, a store and a way to fill it."""

    def __init__(self, setup: Setup, store: Store) -> None:
        self.setup, self.store = setup, store

    def cell(
        self, stage: Stage, arm: str, family: str, target: float, seed: int | None, settings: dict[str, Any],
        make: Callable[[], LoadedModel], *, validate: bool = True,
    ) -> Cell:  # fmt: skip
        """The stored cell, or a new one: `make` gives the model, test and validation are measured, the cell is written."""
        key = self._key(stage, target, seed, settings)
        found = self.store.find(stage, arm, target, seed, key)
        if found is not None:
            return found
        started = time.perf_counter()
        cell = Cell(
            key=key,
            stage=stage,
            arm=arm,
            family=family,
            target=target,
            seed=seed,
            status=Status.DONE,
            settings=settings,
        )
        try:
            loaded = make()
        except Unreachable as reason:
            cell.status, cell.detail = Status.UNREACHABLE, str(reason)
        except Exception as error:
            # A peer that fails is a result too, with its reason; it is tried again the next time.
            cell.status, cell.detail = Status.NOT_RUNNABLE, f"{type(error).__name__}: {error}"
        else:
            cell.achieved = self.setup.sparsity(loaded)
            cell.widths = tuple((tuple(layer.qk), tuple(layer.vo)) for layer in loaded.widths.layers)
            cell.feed_forward = loaded.widths.feed_forward
            cell.validation = measure(self.setup, loaded.model, Split.VALIDATION) if validate else None
            cell.test = measure(self.setup, loaded.model, Split.TEST)
        cell.seconds = round(time.perf_counter() - started, 2)
        self.store.write(cell)
        _say(cell)
        return cell

    def _key(self, stage: Stage, target: float, seed: int | None, settings: Mapping[str, Any]) -> str:
        return key_of({"track": self.setup.identity, "stage": stage.value, "target": target, "seed": seed, **settings})

    def current(self, arms: Iterable[Arm]) -> list[Cell]:
        """The cells of this setup whose arm is still what it was: a folder may hold others' and older ones too."""
        identities = {arm.name: key_of(arm.identity()) for arm in arms}

        def is_current(cell: Cell) -> bool:
            if self._key(cell.stage, cell.target, cell.seed, cell.settings) != cell.key:
                return False
            identity = cell.settings if cell.stage is Stage.ONE_SHOT else cell.settings.get("arm")
            return not identity or identities.get(identity["name"]) == key_of(identity)

        return [cell for cell in self.store if is_current(cell)]

    def dense(self) -> Cell:
        """The model as it came."""
        return self.cell(Stage.ONE_SHOT, DENSE, DENSE, 0.0, None, {}, lambda: self.setup.dense)

    def one_shot(self, arms: Sequence[Arm], targets: Sequence[float], seeds: Sequence[int]) -> None:
        """Every arm at every target. Seed by seed and family by family, so that scoring is shared.

        Validation, which picks the arms that go on to recovery, is measured with one seed alone: half the time.
        """
        for position, seed in enumerate(seeds):
            for arm in arms:
                if position and not arm.seeded:
                    continue
                for target in targets:
                    self.cell(
                        Stage.ONE_SHOT, arm.name, arm.family, target, seed if arm.seeded else None, arm.identity(),
                        partial(arm.cut, self.setup, seed, target), validate=seed == VALIDATED or not arm.seeded,
                    )  # fmt: skip

    def recovered(
        self, arms: Sequence[Arm], targets: Sequence[float], seeds: Sequence[int], settings: Finetune
    ) -> None:
        """One epoch for the best of each family; `best` learns from the original model too, and once without."""
        for target, seed in ((target, seed) for target in targets for seed in seeds):
            for arm, distils in self._contenders(arms, target):
                budget = settings.model_copy(update={"distill": recovery.DISTILL}) if distils else settings
                name = arm.name if distils or arm.name != BEST else f"{BEST}, no distillation"
                self.recovered_cell(arm, target, seed, budget, name)

    def recovered_cell(self, arm: Arm, target: float, seed: int, budget: Finetune, name: str) -> Cell:
        """One arm, cut and recovered with this budget."""
        # The race always keeps what was trained: that field of a job decides nothing here.
        finetune = budget.model_dump(mode="json", exclude={"only_if_better"})
        identity = {"arm": arm.identity(), "finetune": finetune}
        return self.cell(
            Stage.RECOVERED, name, arm.family, target, seed, identity,
            partial(self._cut_and_recovered, arm, target, seed, budget),
        )  # fmt: skip

    def _cut_and_recovered(self, arm: Arm, target: float, seed: int, budget: Finetune) -> LoadedModel:
        return recovery.recover(self.setup, arm.cut(self.setup, seed, target), seed, budget)

    def _contenders(self, arms: Sequence[Arm], target: float) -> Iterable[tuple[Arm, bool]]:
        """Ours, and of each other family the arm that one-shot did best on VALIDATION at this target."""
        for arm in arms:
            if arm.name == BEST:
                yield from ((arm, True), (arm, False))
        cells = self.current(arms)
        for family in ("paper", "torch-pruning", "kwon"):
            chosen = best_of(cells, family, target)
            yield from ((arm, False) for arm in arms if arm.name == chosen)

    def iterative(self, target: float, seed: int, data: Path, cache: Path, threads: int) -> None:
        """The paper's whole job."""
        spec = recovery.paper_job(target, seed)
        self.cell(
            Stage.ITERATIVE, PAPER_JOB, "paper", target, seed, {"spec": spec.model_dump(mode="json")},
            lambda: recovery.iterate(self.setup, data, cache, spec, threads),
        )  # fmt: skip


def best_of(cells: Iterable[Cell], family: str, target: float) -> str | None:
    """The family's arm of highest mean validation accuracy among those within a point of the target; else among all."""
    found: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for cell in cells:
        if cell.stage is Stage.ONE_SHOT and cell.family == family and cell.target == target and cell.validation:
            found[cell.matched].setdefault(cell.arm, []).append(cell.validation.score)
    pool = found[True] or found[False]
    return max(pool, key=lambda arm: sum(pool[arm]) / len(pool[arm]), default=None)


def select(arms: Iterable[Arm], pattern: str) -> tuple[Arm, ...]:
    """The arms whose name the pattern finds."""
    return tuple(arm for arm in arms if re.search(pattern, arm.name))


def _say(cell: Cell) -> None:
    result = cell.detail if cell.test is None else f"{cell.achieved:.1%} gone, test {cell.test}"
    if cell.validation is not None:
        result += f", validation {cell.validation}"
    seed = "" if cell.seed is None else f" draw {cell.seed}"
    print(f"[{cell.stage}] {cell.arm} at {cell.target:.2%}{seed}: {result} ({cell.seconds:.0f} s)", flush=True)
