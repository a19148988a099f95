"""Measurements of a model: its loss and task metric on a split, and its latency."""

from worker.engine.evaluate.scores import answers_of, evaluate
from worker.engine.latency.timing import measure_latency

__all__ = ["answers_of", "evaluate", "measure_latency"]
