"""The code that travels with a cut AST checkpoint whose layers differ; the engine runs the very same files."""

from worker.engine.pruned_ast.configuration_pruned import PrunedASTConfig
from worker.engine.pruned_ast.modeling_pruned import (
    PrunedASTAttention,
    PrunedASTForAudioClassification,
    head_groups,
)

__all__ = ["PrunedASTAttention", "PrunedASTConfig", "PrunedASTForAudioClassification", "head_groups"]
