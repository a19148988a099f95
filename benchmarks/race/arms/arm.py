"""What an arm is: one way of cutting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.race.setup import Setup
from worker.engine.checkpoint.load import LoadedModel

Cut = Callable[[Setup, int, float], LoadedModel]
"""(setup, seed, target share) -> a smaller model. The dense model of the setup is not changed. Raises Unreachable."""


@dataclass(frozen=True)
class Arm:
    """One way of cutting. `settings` and `version` stand for its code in the key of its cells: raise the version when the
    outcome changes, and only then."""

    name: str
    family: str
    cut: Cut
    version: int
    settings: Mapping[str, Any]
    seeded: bool = True
    """False where nothing is drawn and no sample is looked at: one cell then stands for all seeds."""

    def identity(self) -> dict[str, Any]:
        """What of the arm decides its outcome."""
        return {"name": self.name, "version": self.version, "settings": dict(self.settings)}
