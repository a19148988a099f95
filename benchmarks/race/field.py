"""The field: every arm that enters the race, family by family."""

from benchmarks.race import kwon, ours, paper, torch_pruning_arms
from benchmarks.race.arms import Arm


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    return (*paper.arms(), *ours.arms(), *torch_pruning_arms.arms(), *kwon.arms())
