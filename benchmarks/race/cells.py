"""Cells: what was measured, one JSON file each, and the store that makes the race go on where it stopped."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from benchmarks.race.evaluation import Measured


class Stage(StrEnum):
    """How the model of a cell came to be: one cut; one cut and an epoch of recovery; a job of many steps."""

    ONE_SHOT = "one_shot"
    RECOVERED = "recovered"
    ITERATIVE = "iterative"


class Status(StrEnum):
    """`unreachable`: the arm's structures are too coarse. `not_runnable`: it raised; tried again the next time."""

    DONE = "done"
    UNREACHABLE = "unreachable"
    NOT_RUNNABLE = "not_runnable"


class Cell(BaseModel):
    """One arm at one share with one calibration draw."""

    key: str
    """Of everything that decides the outcome; a cell with another key is measured anew."""
    stage: Stage
    arm: str
    family: str
    target: float
    seed: int | None
    """None where the arm draws nothing: the cell then stands for every seed."""
    status: Status
    detail: str = ""
    achieved: float | None = None
    widths: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    """By layer, the QK and the VO widths of the heads that are left."""
    feed_forward: tuple[int, ...] = ()
    """By block, the neurons that are left; empty in cells of before they were cut as well."""
    validation: Measured | None = None
    test: Measured | None = None
    seconds: float = 0.0
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def matched(self) -> bool:
        """Within one point of the target, so that it compares with other arms."""
        return self.achieved is not None and abs(self.achieved - self.target) <= 0.01


def key_of(values: Mapping[str, Any]) -> str:
    """Of JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


class Store:
    """The cells of one --out folder."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "cells"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, stage: Stage, arm: str, target: float, seed: int | None) -> Path:
        name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", arm)
        return self.folder / f"{stage.value}--{name}--{target:g}--{'any' if seed is None else seed}.json"

    def find(self, stage: Stage, arm: str, target: float, seed: int | None, key: str) -> Cell | None:
        """The cell, where it has this key and its arm ran."""
        path = self.path(stage, arm, target, seed)
        if not path.is_file():
            return None
        cell = Cell.model_validate_json(path.read_bytes())
        return cell if cell.key == key and cell.status is not Status.NOT_RUNNABLE else None

    def write(self, cell: Cell) -> None:
        """Whole or not at all: another process may be reading."""
        path = self.path(cell.stage, cell.arm, cell.target, cell.seed)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(cell.model_dump_json(indent=1))
        scratch.replace(path)

    def __iter__(self) -> Iterator[Cell]:
        for path in sorted(self.folder.glob("*.json")):
            yield Cell.model_validate_json(path.read_bytes())
