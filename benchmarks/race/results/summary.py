"""Cells to rows: means over calibration draws, intervals against dense and against `best`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.race.cells import Cell, Stage, Status
from benchmarks.race.evaluation import EmbeddingSimilarity, NextTokens
from benchmarks.race.results.bootstrap import Difference, paired
from benchmarks.race.runner import BEST, DENSE

ARRAYS = frozenset({"right", "nats"})
"""Of an entry, what is left out of JSON."""


@dataclass(frozen=True)
class Entry:
    """One arm at one target: what its calibration draws say together."""

    stage: Stage
    arm: str
    family: str
    target: float
    status: Status
    detail: str
    draws: int
    """How many; 0 where the arm draws nothing."""
    achieved: float | None = None
    validation: float | None = None
    test: float | None = None
    test_by_draw: tuple[float, ...] = ()
    right: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By test clip, the share of draws that got it right; by sentence, the mean cosine."""
    correlation: float | None = None
    """Of pairwise similarities with the dense model's, where answers are embeddings; over draws the mean."""
    perplexity: float | None = None
    """Of a decoder: of the mean over draws of its cross entropy."""
    validation_perplexity: float | None = None
    nats: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By test block of a decoder, its mean cross entropy over draws."""
    nats_minus_best: Difference | None = None
    """How many hundredths of a nat a token the arm is above `best`."""
    versus_dense: Difference | None = None
    best_minus: Difference | None = None

    @property
    def matched(self) -> bool:
        """Within one point of the target."""
        return self.achieved is not None and abs(self.achieved - self.target) <= 0.01

    def row(self) -> dict[str, Any]:
        """For JSON: what is known, without what is of single samples."""
        return {key: value for key, value in asdict(self).items() if key not in ARRAYS and value not in (None, "", ())}


def _entry(cells: list[Cell]) -> Entry:
    first = cells[0]
    done = [cell for cell in cells if cell.status is Status.DONE and cell.test]
    validation = [cell.validation.score for cell in done if cell.validation]
    if not done:
        return Entry(first.stage, first.arm, first.family, first.target, first.status, first.detail, 0)
    right = [cell.test.by_sample() for cell in done if cell.test]
    decoded = [cell.test for cell in done if isinstance(cell.test, NextTokens)]
    nats = np.mean([each.nats_by_sample() for each in decoded], axis=0) if decoded else np.zeros(0)
    decoder = bool(decoded) and bool(validation)
    correlations = [cell.test.correlation for cell in done if isinstance(cell.test, EmbeddingSimilarity)]
    return Entry(
        first.stage, first.arm, first.family, first.target, Status.DONE,
        # One draw in three that did not run must not vanish in the mean of the others.
        next((cell.detail for cell in cells if cell.status is not Status.DONE), ""),
        sum(cell.seed is not None for cell in done),
        achieved=float(np.mean([cell.achieved for cell in done if cell.achieved is not None])),
        validation=float(np.mean(validation)) if validation else None,
        test=float(np.mean(right)),
        test_by_draw=tuple(float(r.mean()) for r in right),
        right=np.mean(right, axis=0),
        correlation=float(np.mean(correlations)) if correlations else None,
        perplexity=float(np.exp(nats.mean())) if decoded else None,
        validation_perplexity=float(np.exp(-np.mean(validation))) if decoder else None,
        nats=nats,
    )  # fmt: skip


def summarise(cells: Iterable[Cell]) -> list[Entry]:
    """All entries, with intervals wherever both sides were measured on the same clips."""
    groups: dict[tuple[Stage, str, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.stage, cell.arm, cell.target].append(cell)
    entries = [_entry(group) for group in groups.values()]
    dense = next((entry for entry in entries if entry.arm == DENSE), None)
    best = {(entry.stage, entry.target): entry for entry in entries if entry.arm == BEST}
    return [_with_intervals(entry, dense, best.get((_rival_stage(entry.stage), entry.target))) for entry in entries]


def _rival_stage(stage: Stage) -> Stage:
    """The iterative job is set against `best` after its one epoch."""
    return Stage.RECOVERED if stage is Stage.ITERATIVE else stage


def _with_intervals(entry: Entry, dense: Entry | None, best: Entry | None) -> Entry:
    def against(
        first: Entry | None, second: Entry | None, what: Literal["right", "nats"] = "right"
    ) -> Difference | None:
        if first is None or second is None or first is second:
            return None
        one, other = getattr(first, what), getattr(second, what)
        return paired(one, other) if len(one) and len(one) == len(other) else None

    return replace(
        entry,
        versus_dense=against(entry, dense),
        best_minus=against(best, entry),
        nats_minus_best=against(entry, best, "nats"),
    )
