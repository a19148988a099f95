"""Pruned models: the code that is shipped with a cut checkpoint, which the engine also runs."""

from worker.engine.models import pruned_layers
from worker.engine.models.pruned_heads import head_groups
from worker.engine.models.pruned_layers import narrow_attention
from worker.engine.models.source import PrunedClasses, pruned_classes

__all__ = ["PrunedClasses", "head_groups", "narrow_attention", "pruned_classes", "pruned_layers"]
