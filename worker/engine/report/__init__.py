"""The human-readable results of a job: figures, the report page and the model card, all from the same step metrics.

Nothing here computes a result; it shows what was measured. Files are flat, self-contained and the same bytes for the same input,
so they can be hashed, compared and committed like weights.
"""

from worker.engine.report.card import write_model_card
from worker.engine.report.html import write_report

__all__ = ["write_model_card", "write_report"]
