"""A machine that is only a clock: its passes take what they are said to, times what load, drift and chance make of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Machine:
    """`clock` stands still but for `passes`, which are called like a forward pass."""

    seed: int
    drift: float = 0.0
    """Share by which it becomes slower every second."""
    bursts: bool = False
    """Others want its cores for about every second 0.3 s: a pass may take two to five times as long."""
    tails: bool = False
    """One pass in five meets something without a mean to speak of (Pareto, exponent 1.1)."""
    jitter: float = 0.02
    now: float = 0.0
    _busy: bool = False
    _until: float = 0.0
    _draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def passes(self, milliseconds: float) -> Callable[[], None]:
        """A pass that takes so long on a machine of its own."""

        def run() -> None:
            if self.now >= self._until:
                self._busy = not self._busy
                self._until = self.now + self._draw.exponential(0.3)
            slower = (1.0 + self.drift * self.now) * np.exp(self.jitter * self._draw.normal())
            if self.bursts and self._busy:
                slower *= self._draw.choice([1, 2, 3, 5])
            if self.tails and self._draw.random() < 0.2:
                slower *= 1.0 + self._draw.pareto(1.1)
            self.now += milliseconds / 1000.0 * float(slower)

        return run


LOADS = {
    "quiet": {},
    "drift": {"drift": 0.05},
    "bursts": {"bursts": True},
    "tails": {"tails": True},
    "all": {"drift": 0.05, "bursts": True, "tails": True, "jitter": 0.05},
}
"""What a machine is like, by name."""
