"""Reads data from disk and produces features and targets by split."""

from worker.engine.data.pipeline import PreparedData, prepare
from worker.engine.data.split import FeatureSplit

__all__ = ["FeatureSplit", "PreparedData", "prepare"]
