"""Scoring: how much each channel matters, by criterion; and the one pass over samples that sees all it takes."""

from worker.engine.scoring.channels import LayerScores
from worker.engine.scoring.criteria import WANTS, score
from worker.engine.scoring.neurons import NeuronScores, score_neurons
from worker.engine.scoring.observations import LayerObservations, Observations, Want
from worker.engine.scoring.observe import observe

__all__ = [
    "WANTS",
    "LayerObservations",
    "LayerScores",
    "NeuronScores",
    "Observations",
    "Want",
    "observe",
    "score",
    "score_neurons",
]
