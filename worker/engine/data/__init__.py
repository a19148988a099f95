"""Audio on disk in, features and targets by split out."""

from worker.engine.data.pipeline import PreparedData, prepare
from worker.engine.data.split import FeatureSplit

__all__ = ["FeatureSplit", "PreparedData", "prepare"]
