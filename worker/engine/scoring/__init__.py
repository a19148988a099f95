"""Scoring: how much each channel matters, by criterion."""

from worker.engine.scoring.channels import LayerScores
from worker.engine.scoring.criteria import score
from worker.engine.scoring.fisher import fisher_information

__all__ = ["LayerScores", "fisher_information", "score"]
