"""What is measured on a model: its loss and task metric on a split, and how long it takes."""

from worker.engine.evaluate.latency import measure_latency
from worker.engine.evaluate.metrics import average_precision, mean_average_precision, per_sample_loss
from worker.engine.evaluate.scores import evaluate

__all__ = ["average_precision", "evaluate", "mean_average_precision", "measure_latency", "per_sample_loss"]
