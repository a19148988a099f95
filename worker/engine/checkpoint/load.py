"""Reading a checkpoint folder into the engine: the original upload, or a step that the engine wrote."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.widths import AttentionWidths
from checkpoints.config.checkpoint_config import plain_values
from checkpoints.describe import describe_folder, key_mapping
from checkpoints.families import family_named
from worker.engine.checkpoint.stock_folder import as_stock_reads
from worker.engine.data.settings import read_config as read_settings
from worker.engine.models.model_spec import ModelSpec, build, copy_generation_config

PRUNING_FILE = "pruning.json"


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory: a float32 model of the pruned class, with what its files said of it."""

    model: PreTrainedModel
    model_spec: ModelSpec
    widths: AttentionWidths
    dtype: torch.dtype
    """The dtype its file stores, and its successors' files will."""


def scale_queries(state: dict[str, Tensor], queries: Iterable[str], factor: float) -> None:
    """Multiply W_q and b_q of every attention by `factor`, in place of the entries. `queries`: paths of the projections."""
    for name in queries:
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in state:
                state[key] = state[key] * factor


def load_original(folder: Path) -> LoadedModel:
    """A checkpoint as uploaded, in its stock class.

    Raises SecateurError as describe_folder does, WEIGHTS_MISMATCH where the file lacks tensors of the class or holds others, and
    NUMERICAL where a weight is NaN or infinite.
    """
    described = describe_folder(folder)
    model_spec, widths = ModelSpec(described.family, described.name), described.widths
    # Not AutoConfig, which lets the file decide what is built from it.
    config_class: Any = model_spec.classes.stock.config_class
    try:
        config = config_class.from_dict(plain_values(described.family, read_settings(folder)))
    except Exception as error:  # whatever a wrongly typed value meets first in transformers
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SecateurError(ErrorCode.CONFIG_INVALID, f"transformers cannot read config.json: {reason[0]}") from error
    loading: Any = (
        model_spec.classes.stock.from_pretrained
    )  # with loading info it returns a pair, which its annotation leaves out
    names = key_mapping(folder) or None
    with as_stock_reads(folder) as place:
        stock, info = loading(place, config=config, key_mapping=names, local_files_only=True, output_loading_info=True)
    absent = _check_complete(model_spec, info, {name.partition(".")[0] for name in stock.state_dict()})
    dtype = stock.dtype
    state = stock.float().state_dict()
    for name in absent:
        # transformers drew them at random, from no seed of ours.
        state[name].zero_()
    model = build(model_spec, stock.config.to_dict(), widths, state)
    copy_generation_config(model, stock)
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SecateurError(
            ErrorCode.NUMERICAL, f"{len(broken)} tensors hold NaN or infinite values, the first is {broken[0]}."
        )
    return LoadedModel(model, model_spec, widths, dtype)


def _check_complete(model_spec: ModelSpec, info: Mapping[str, Any], roots: Collection[str]) -> list[str]:
    """Nothing of the class is missing from the file, and the file holds nothing else: else random weights would be pruned.

    Heads of other classes, outside of the class's own `roots`, are left in the file. Returns what is missing and dispensable.
    """
    dispensable = model_spec.family.architectures[model_spec.name].dispenses_with

    def spare(key: str) -> bool:
        return dispensable(key) or key.partition(".")[0] not in roots

    keys = {what: sorted(map(str, info.get(f"{what}_keys") or ())) for what in ("missing", "unexpected", "mismatched")}
    found = {what: [key for key in of_kind if what == "mismatched" or not spare(key)] for what, of_kind in keys.items()}
    if not any(found.values()):
        return keys["missing"]
    said = "; ".join(f"{what}: {', '.join(keys[:5])}" for what, keys in found.items() if keys)
    items = tuple(
        ErrorItem.at(key[:200], code=ErrorCode.WEIGHTS_MISMATCH, detail=what)
        for what, keys in found.items()
        for key in keys[:20]
    )
    detail = (
        f"The weights are not those of {model_spec.name}: {said}. Save the model in the class that config.json names."
    )
    raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, items)


def load_step(folder: Path) -> LoadedModel:
    """A step the engine wrote, in either shape. A stock shape's queries get their folded softmax scale taken out again."""
    record = json.loads((folder / PRUNING_FILE).read_text())
    family = family_named(record["family"])
    model_spec = ModelSpec(family, record["architecture"])
    widths = AttentionWidths.model_validate(record["widths"])
    source = model_spec.classes.stock if record["stock_layout"] else model_spec.classes.pruned
    model = source.from_pretrained(folder, local_files_only=True)
    dtype = model.dtype
    state = dict(model.float().state_dict())
    config = model.config.to_dict()
    if record["stock_layout"]:
        if family.head_dim_key is not None:
            # The scale of the softmax is the original's, also where the folder's configuration says another width.
            config[family.head_dim_key] = widths.head_dim
        queries = [site.q for site in model_spec.layout(config).attention]
        scale_queries(state, queries, 1.0 / record["query_scale"])
    built = build(model_spec, config, widths, state)
    copy_generation_config(built, model)
    return LoadedModel(built, model_spec, widths, dtype)
