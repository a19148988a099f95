"""Recovery after a cut: low-rank adapters on the attention projections, trained and merged."""

from worker.engine.recovery.finetune import finetune

__all__ = ["finetune"]
