"""Reading a checkpoint folder into the engine: the original upload, or a step that the engine wrote."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from api_schemas.checkpoint import describe_folder
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.families import FAMILIES, Family
from api_schemas.widths import AttentionWidths
from worker.engine.models import build, model_classes

PRUNING_FILE = "pruning.json"


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory: a float32 model of the pruned class, with what its files said of it."""

    model: PreTrainedModel
    family: Family
    widths: AttentionWidths
    dtype: torch.dtype
    """The dtype its file stores, and its successors' files will."""


def scale_queries(state: dict[str, Tensor], family: Family, layers: int, factor: float) -> None:
    """Multiply W_q and b_q of every layer by `factor`, in place of the entries."""
    for layer in range(layers):
        name = f"{family.attention_modules.format(layer=layer)}.{family.projections['q']}"
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in state:
                state[key] = state[key] * factor


def load_original(folder: Path) -> Loaded:
    """A checkpoint as uploaded, in the stock class of its family.

    Raises SecateurError as describe_folder does, and NUMERICAL where a weight is NaN or infinite.
    """
    described = describe_folder(folder)
    family, widths = described.family, described.widths
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a wrongly typed value meets first in transformers
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SecateurError(ErrorCode.CONFIG_INVALID, f"transformers cannot read config.json: {reason[0]}") from error
    stock = model_classes(family).stock.from_pretrained(folder, config=config, local_files_only=True)
    dtype = stock.dtype
    model = build(family, stock.config.to_dict(), widths, stock.float().state_dict())
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SecateurError(
            ErrorCode.NUMERICAL, f"{len(broken)} tensors hold NaN or infinite values, the first is {broken[0]}."
        )
    return Loaded(model, family, widths, dtype)


def load_step(folder: Path) -> Loaded:
    """A step the engine wrote, in either shape. A stock shape's queries get their folded softmax scale taken out again."""
    record = json.loads((folder / PRUNING_FILE).read_text())
    family = next(family for family in FAMILIES if family.name == record["family"])
    widths = AttentionWidths.model_validate(record["widths"])
    classes = model_classes(family)
    source = classes.stock if record["stock_layout"] else classes.pruned
    model = source.from_pretrained(folder, local_files_only=True)
    dtype = model.dtype
    state = dict(model.float().state_dict())
    scale_queries(state, family, len(widths.layers), 1.0 / record["query_scale"])
    return Loaded(build(family, model.config.to_dict(), widths, state), family, widths, dtype)
