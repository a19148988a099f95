"""The engine's model classes, a family each: what a checkpoint becomes while it is being cut.

The engine always works on the pruned class, whose layers may have any widths; the dense model is the case where nothing is
cut yet. One class for every stage, and the code that travels with a cut checkpoint is the code that was measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ASTForAudioClassification, PreTrainedConfig, PreTrainedModel

from api_schemas.families import Family
from api_schemas.widths import AttentionWidths
from worker.engine import pruned_ast


@dataclass(frozen=True)
class ModelClasses:
    """What a family needs in torch: the stock class, the pruned class and its configuration, and where their code lies."""

    stock: type[PreTrainedModel]
    pruned: type[PreTrainedModel]
    config: type[PreTrainedConfig]
    auto_class: str
    code: Path
    attention: Callable[[Any, list[int], list[int], int], nn.Module]
    """One layer's attention from the model's configuration, QK and VO widths by head, and the number of tokens."""
    groups: Callable[[Sequence[int], Sequence[int], int], Sequence[tuple[tuple[int, ...], int]]]
    """From the same widths and tokens: the calls of the attention kernel it makes, each (heads, padded width)."""


_CLASSES = {
    "ast": ModelClasses(
        stock=ASTForAudioClassification,
        pruned=pruned_ast.PrunedASTForAudioClassification,
        config=pruned_ast.PrunedASTConfig,
        auto_class="AutoModelForAudioClassification",
        code=Path(pruned_ast.__file__).parent,
        attention=pruned_ast.PrunedASTAttention,
        groups=pruned_ast.head_groups,
    ),
}


def model_classes(family: Family) -> ModelClasses:
    """The classes of a family. KeyError where the engine has none, which a test rules out."""
    return _CLASSES[family.name]


def build(
    family: Family, config: Mapping[str, Any], widths: AttentionWidths, state: Mapping[str, Tensor]
) -> PreTrainedModel:
    """A pruned-class model with these widths and weights, float32, in eval mode.

    `config` is any configuration of the family, stock or pruned, as a mapping; `state` is in the module tree's names.
    """
    classes = model_classes(family)
    foreign = {"model_type", "auto_map", "architectures", "head_dim", "dtype", "transformers_version"}
    values = {key: value for key, value in config.items() if key not in foreign}
    values["attention_head_dim"] = widths.head_dim
    values["attention_widths"] = [{"qk": list(layer.qk), "vo": list(layer.vo)} for layer in widths.layers]
    model: PreTrainedModel = classes.pruned(classes.config(**values))
    model.load_state_dict(dict(state), strict=True)
    on_device(model, torch.float32).eval()
    return model


def on_device(model: PreTrainedModel, where: torch.device | torch.dtype) -> PreTrainedModel:
    """The same model, its tensors moved to a device or converted to a dtype."""
    nn.Module.to(model, where)
    return model
