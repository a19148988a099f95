"""Reads a checkpoint folder into the engine: the original upload, or a step that the engine wrote."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.widths import AttentionWidths
from checkpoints.config.checkpoint_config import plain_values, without_nulls
from checkpoints.config.forbidden_fields import ATTENTION_FIELDS
from checkpoints.describe import describe_folder, key_mapping, main_dtype, named_tensors, read_tensors
from checkpoints.families import Family, family_named
from checkpoints.files.preprocessor_files import GENERATION
from worker.engine.checkpoint.stock_folder import as_stock_reads
from worker.engine.checkpoint.whole_files import load_part
from worker.engine.data.settings import read_config as read_settings
from worker.engine.models.model_spec import ModelSpec, build, copy_generation_config, width_entries
from worker.engine.models.stock_tensors import as_pruned, of_parts

PRUNING_FILE = "pruning.json"
DTYPES: Mapping[str, torch.dtype] = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory: a float32 model of the pruned class, with what its files said of it."""

    model: PreTrainedModel
    model_spec: ModelSpec
    widths: AttentionWidths
    dtype: torch.dtype
    """What its file stores most weights as, and its successors' files will."""
    other_dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    """By name, what is stored as another."""


def scale_queries(state: dict[str, Tensor], queries: Iterable[str], factor: float) -> None:
    """Multiply W_q and b_q of every attention by `factor`, in place of the entries. `queries`: paths of the projections."""
    for name in queries:
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in state:
                state[key] = state[key] * factor


def load_original(folder: Path) -> LoadedModel:
    """A checkpoint as uploaded, which its stock class reads or, where it is a result in the layout of our own, the pruned one.

    Raises SecateurError as describe_folder does, WEIGHTS_MISMATCH where the file lacks tensors of the class or holds others, and
    NUMERICAL where a weight is NaN or infinite.
    """
    described = describe_folder(folder)
    model_spec, widths = ModelSpec(described.family, described.name), described.widths
    pruned = described.shape.pruned
    stock, info = _load(folder, model_spec, plain_values(described.family, read_settings(folder)), pruned)
    state = stock.state_dict()
    absent = _check_complete(model_spec, info, state)
    for name in absent:
        # transformers drew them at random, from no seed of ours.
        state[name].zero_()
    if pruned is None:
        state = as_pruned(state, model_spec.layout_of(stock), widths)
    model = build(model_spec, stock.config.to_dict(), widths, state, stock.all_tied_weights_keys)
    copy_generation_config(model, stock)
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SecateurError(
            ErrorCode.NUMERICAL, f"{len(broken)} tensors contain NaN or infinity; the first is {broken[0]}."
        )
    others = {name: DTYPES[dtype] for name, dtype in described.other_dtypes.items()}
    others = of_parts(others, model_spec.layout_of(model), widths)
    return LoadedModel(model, model_spec, widths, DTYPES[described.dtype], others)


def load_stock(folder: Path, model_spec: ModelSpec) -> PreTrainedModel:
    """What transformers alone makes of an upload, with all of its config.json where that can be read; float32.

    Of a result in the layout of our own, what it makes of it with Secateur's code.
    """
    settings = _for_outputs(model_spec.family, read_settings(folder))
    pruned = describe_folder(folder).shape.pruned
    try:
        return _load(folder, model_spec, settings, pruned)[0]
    except SecateurError:
        return _load(folder, model_spec, plain_values(model_spec.family, settings), pruned)[0]


def _for_outputs(family: Family, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what says how it computes attention and in which form it returns outputs, inside of it as well."""
    inner = {key: _for_outputs(each, settings[key]) for key, each in family.inner.items() if settings.get(key)}
    left_out = {*ATTENTION_FIELDS, "auto_map", "return_dict"}
    return {key: value for key, value in without_nulls(family, settings).items() if key not in left_out} | inner


def _load(
    folder: Path, model_spec: ModelSpec, settings: Mapping[str, Any], pruned: AttentionWidths | None
) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    """The stock class, or the pruned one of these widths, and what transformers says of the loading. Raises CONFIG_INVALID."""
    # Not AutoConfig, which lets the file decide what is built from it.
    classes = model_spec.classes
    config_class: Any = classes.stock.config_class if pruned is None else classes.config
    if pruned is not None:
        settings = {**settings, **width_entries(model_spec.layout(settings), pruned)}
    try:
        config = config_class.from_dict(settings)
    except Exception as error:  # whatever a wrongly typed value meets first in transformers
        raise _unreadable("config.json", error) from error
    # Of a part as well: the whole model generates with what the file says.
    if classes.stock.can_generate() and (folder / GENERATION).is_file():
        try:
            GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # likewise
            raise _unreadable(GENERATION, error) from error
    made = classes.engine_stock if pruned is None else classes.engine_pruned
    if model_spec.family.part is not None:
        return load_part(folder, model_spec.family.part, made, config), {}
    # With loading info it returns a pair, which its annotation leaves out.
    loading: Any = made.from_pretrained
    with as_stock_reads(folder) as place:
        pair: tuple[PreTrainedModel, Mapping[str, Any]] = loading(
            place,
            config=config,
            key_mapping=key_mapping(folder) or None,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    return pair


def _unreadable(name: str, error: Exception) -> SecateurError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    item = ErrorItem.at(name, code=ErrorCode.CONFIG_INVALID, detail=reason[0])
    return SecateurError(ErrorCode.CONFIG_INVALID, f"transformers cannot read {name}: {reason[0]}", (item,))


def _check_complete(model_spec: ModelSpec, info: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[str]:
    """Nothing of the class, whose `state` this is, is missing from the file, and the file holds nothing else: else random weights
    would be pruned.

    Heads of other classes, outside of the class's own roots, are left in the file; whole numbers, which index tables, the class
    computes itself. Returns what is missing and dispensable.
    """
    roots = {name.partition(".")[0] for name in state}
    dispensable = model_spec.family.architectures[model_spec.name].dispenses_with

    def spare(key: str) -> bool:
        return dispensable(key) or key.partition(".")[0] not in roots

    keys = {what: sorted(map(str, info.get(f"{what}_keys") or ())) for what in ("missing", "unexpected", "mismatched")}
    keys["missing"] = [key for key in keys["missing"] if key not in state or state[key].is_floating_point()]
    found = {what: [key for key in of_kind if what == "mismatched" or not spare(key)] for what, of_kind in keys.items()}
    if not any(found.values()):
        return keys["missing"]
    said = "; ".join(f"{what}: {', '.join(keys[:5])}" for what, keys in found.items() if keys)
    items = tuple(
        ErrorItem.at(key[:200], code=ErrorCode.WEIGHTS_MISMATCH, detail=what)
        for what, keys in found.items()
        for key in keys[:20]
    )
    detail = f"The weights do not match {model_spec.name}: {said}. Save the model in the class that config.json names."
    raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, items)


def _step_model(folder: Path, model_spec: ModelSpec, *, stock: bool) -> PreTrainedModel:
    """What the engine runs of a step's folder, as transformers makes it."""
    classes = model_spec.classes
    made: Any = classes.engine_stock if stock else classes.engine_pruned
    if model_spec.family.part is not None:
        return load_part(folder, model_spec.family.part, made, made.config_class.from_pretrained(folder))
    with as_stock_reads(folder) as place:
        model: PreTrainedModel = made.from_pretrained(place, dtype=torch.float32, local_files_only=True)
    return model


def load_step(folder: Path) -> LoadedModel:
    """A step the engine wrote, in either shape. A stock shape's queries get their folded softmax scale taken out again."""
    record = json.loads((folder / PRUNING_FILE).read_text())
    family = family_named(record["family"])
    model_spec = ModelSpec(family, record["architecture"])
    widths = AttentionWidths.model_validate(record["widths"])
    model = _step_model(folder, model_spec, stock=record["stock_layout"])
    state = dict(model.state_dict())
    config = model.config.to_dict()
    if record["stock_layout"]:
        if family.head_dim_key is not None:
            # The scale of the softmax is the original's, also where the folder's configuration says another width.
            config[family.head_dim_key] = widths.head_dim
        layout = model_spec.layout(config)
        state = as_pruned(state, layout, widths)
        scale_queries(state, (site.q for site in layout.attention), 1.0 / record["query_scale"])
    built = build(model_spec, config, widths, state, model.all_tied_weights_keys)
    copy_generation_config(built, model)
    tensors = read_tensors(folder)
    if family.part is not None:
        tensors = {name: tensor.info for name, tensor in named_tensors(folder).items()}
    dtype = main_dtype(tensors)
    others = {name: DTYPES[tensor.dtype] for name, tensor in tensors.items() if tensor.dtype in set(DTYPES) - {dtype}}
    others = of_parts(others, model_spec.layout_of(built), widths)
    return LoadedModel(built, model_spec, widths, DTYPES[dtype], others)
