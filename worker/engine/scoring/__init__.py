"""Scoring: how much each channel matters, by criterion; and the single pass over samples that collects what this needs."""

from worker.engine.scoring.channels import LayerScores
from worker.engine.scoring.criteria import REQUIRED_STATISTICS, score
from worker.engine.scoring.neurons import NeuronScores, score_neurons
from worker.engine.scoring.observations import LayerObservations, Observations, Statistic
from worker.engine.scoring.observe import observe

__all__ = [
    "REQUIRED_STATISTICS",
    "LayerObservations",
    "LayerScores",
    "NeuronScores",
    "Observations",
    "Statistic",
    "observe",
    "score",
    "score_neurons",
]
