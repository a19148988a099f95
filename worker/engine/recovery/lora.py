"""Low-rank adapters (Hu et al., arXiv 2106.09685) with peft: added to exactly the named projections, and merged.

peft is imported inside the functions: a job without fine-tuning does not need it, and it imports transformers classes that import
torchaudio.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union

from torch import nn
from transformers import PreTrainedModel

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.recovery import Lora

if TYPE_CHECKING:
    import peft

Adapted = Union["peft.PeftModel", PreTrainedModel]
"""A model with adapters; or without, where there is nothing to adapt."""


def capped_ranks(projections: Mapping[str, nn.Linear], rank: int) -> dict[str, int]:
    """Adapter rank by module name. A rank above the matrix's smaller side adds parameters and nothing else."""
    return {name: min(rank, linear.in_features, linear.out_features) for name, linear in projections.items()}


def _config(ranks: Mapping[str, int], lora: Lora) -> "peft.LoraConfig":
    """Patterns that match each name whole: peft otherwise matches by suffix, and takes dots for any character.

    Where a rank is capped, alpha is scaled with it: the adapter's output is multiplied by alpha / rank, and that
    factor, which acts like a learning rate, stays the one asked for.
    """
    import peft

    exact = {name: f"^{re.escape(name)}" for name in ranks}
    return peft.LoraConfig(
        target_modules="|".join(re.escape(name) for name in ranks),
        lora_dropout=lora.dropout,
        rank_pattern={exact[name]: rank for name, rank in ranks.items()},
        alpha_pattern={exact[name]: lora.alpha * rank / lora.rank for name, rank in ranks.items()},
        bias="none",
    )


def attach(
    model: PreTrainedModel, projections: Mapping[str, nn.Linear], classifiers: Sequence[str], lora: Lora
) -> tuple[Adapted, dict[str, int]]:
    """`model` with adapters, and their ranks. Only adapters and the parameters of `classifiers` want gradients.

    Without `projections`, when all attention has gone, it is `model` itself, of which the classifier is left to train.

    The adapters start as the identity (B = 0). The classifier is trained in place rather than through peft's
    `modules_to_save`, which matches names by how they end (`pre_classifier` for `classifier`) and trains a copy.
    Raises ENGINE_ERROR where any named module was not found or got no adapter: peft passes over those in silence.
    """
    import peft
    from peft.tuners.lora import LoraLayer

    ranks = capped_ranks(projections, lora.rank)
    adapted = peft.get_peft_model(model, _config(ranks, lora)) if ranks else model.requires_grad_(False)
    modules = dict(base_of(adapted).named_modules())
    found = {name: layer.r["default"] for name, layer in modules.items() if isinstance(layer, LoraLayer)}
    if found != ranks:
        wrong = sorted(set(found.items()) ^ set(ranks.items()))
        raise SecateurError(
            ErrorCode.ENGINE_ERROR, f"Adapters are not on the named projections, and on them alone: {wrong}"
        )
    for name in classifiers:
        if name not in modules:
            raise SecateurError(ErrorCode.ENGINE_ERROR, f"The model has no module {name!r}, named as its classifier.")
        modules[name].requires_grad_(True)
    return adapted, ranks


def base_of(adapted: Adapted) -> nn.Module:
    """The model under the adapters, if there are any."""
    import peft

    base: nn.Module = adapted.get_base_model() if isinstance(adapted, peft.PeftModel) else adapted
    return base


def merge(adapted: Adapted) -> PreTrainedModel:
    """The model with its adapters added into its weights, in eval mode, gradients on everywhere (peft froze it)."""
    import peft

    merged: PreTrainedModel = adapted.merge_and_unload() if isinstance(adapted, peft.PeftModel) else adapted
    merged.requires_grad_(True)
    merged.train(False)
    return merged
