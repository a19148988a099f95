"""Ours: the `best` settings, and the same with one thing taken away at a time. All through the engine's own cutting."""

from benchmarks.race.arms import Arm


def arms() -> tuple[Arm, ...]:
    return ()
