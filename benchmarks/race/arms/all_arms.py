"""The field: every arm that enters the race, family by family."""

from benchmarks.race.arms import kwon, ours, paper, torch_pruning
from benchmarks.race.arms.arm import Arm


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    return (*paper.arms(), *ours.arms(), *torch_pruning.arms(), *kwon.arms())
