"""What differs by what a model answers with, one object a head: how it is called, its losses, its scores."""

from worker.engine.tasks.base import Decode, Loss, MetricAccumulator, Task
from worker.engine.tasks.choose import task_for
from worker.engine.tasks.classification import Classification

__all__ = ["Classification", "Decode", "Loss", "MetricAccumulator", "Task", "task_for"]
