"""Recovery after a cut: low-rank adapters on the attention projections, trained (optionally with a teacher) and merged."""

from worker.engine.recovery.checkpointing import CheckpointSettings
from worker.engine.recovery.distill import Teacher
from worker.engine.recovery.finetune import finetune

__all__ = ["CheckpointSettings", "Teacher", "finetune"]
