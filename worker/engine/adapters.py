"""Merges a LoRA adapter into the weights of its model (Hu et al., arXiv 2106.09685): W + s B A, with s from peft's settings.

With DoRA (Liu et al., arXiv 2402.09353, eq. 5) every row of the sum is then scaled to the length that the adapter gives.

Works on the tensors and their names alone, without building a model: nothing that the settings name is loaded or run.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.families import Family, family_of
from checkpoints.file_names import ADAPTER
from worker.engine.data.settings import read_object

WEIGHTS = "adapter_model.safetensors"
BEFORE = "base_model.model."
"""What peft puts before the names of the model's own tensors."""
ENDS = {"SEQ_CLS": "ForSequenceClassification", "TOKEN_CLS": "ForTokenClassification", "FEATURE_EXTRACTION": "Model"}
"""What peft calls a task, and how a class of transformers for it ends."""
PLAIN: Mapping[str, Any] = {"fan_in_fan_out": False, "bias": "none"}
"""Settings under which the formula is that one."""
LENGTHS = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
"""What peft calls the lengths of rows, now and before."""


def adapted(folder: Path, base: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of the model in `base`, whose weights are `tensors`, with the adapter in `folder`.

    Raises FILE_MISSING, CONFIG_INVALID where the adapter is of another kind, and WEIGHTS_MISMATCH where it is another model's.
    """
    settings, config = read_object(folder / ADAPTER), read_object(base / "config.json")
    _check_plain(settings)
    if not (folder / WEIGHTS).is_file():
        raise SecateurError(ErrorCode.FILE_MISSING, f"{folder} has no {WEIGHTS}. Save the adapter again with peft.")
    family = family_of(str(config.get("model_type")))
    if family is None:
        raise _wrong(f"models of type {str(config.get('model_type'))[:100]!r} cannot be pruned")
    name = _class_of(family, config, settings)
    prefix = family.architectures[name].prefix
    found = dict(tensors)
    if prefix and not any(each.startswith(prefix) for each in found):
        # A plain encoder, which a head comes to.
        found = {prefix + each: tensor for each, tensor in found.items()}
    added = {key.removeprefix(BEFORE): tensor for key, tensor in load_file(folder / WEIGHTS).items()}
    for key in [each for each in added if each.endswith(".lora_A.weight")]:
        module = key.removesuffix(".lora_A.weight")
        inner, outer = added.pop(key), added.pop(f"{module}.lora_B.weight", None)
        own = _own_name(family, f"{module}.weight", found)
        if own is None or outer is None or found[own].shape != (len(outer), inner.shape[-1]):
            detail = (
                f"The adapter changes {module}, but the model in {base} has no matching layer. Does the adapter "
                "belong to another model?"
            )
            raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail)
        change = _scale(settings, module, len(inner)) * (outer.to(torch.float64) @ inner.to(torch.float64))
        changed = found[own].to(torch.float64) + change
        lengths = next((added.pop(module + end) for end in LENGTHS if module + end in added), None)
        if (lengths is None) == bool(settings.get("use_dora")):
            raise _wrong(f"its use_dora does not match the tensors of {module}")
        if lengths is not None:
            if lengths.numel() != len(changed):
                raise _wrong(f"it has {lengths.numel()} magnitudes for the {len(changed)} rows of {module}")
            changed *= lengths.to(torch.float64).view(-1, 1) / torch.linalg.norm(changed, dim=1, keepdim=True)
        found[own] = changed.to(found[own].dtype)
    if strange := [each for each in added if "lora_" in each]:
        raise _wrong(f"it contains {strange[0]}, which is not plain LoRA")
    whole = {_own_name(family, each, found) or each: tensor for each, tensor in added.items()}
    dtype = next(iter(tensors.values())).dtype
    found |= {each: tensor.to(dtype) for each, tensor in whole.items()}
    return {**_labelled(config, family, name, whole), "architectures": [name]}, found


def _check_plain(settings: Mapping[str, Any]) -> None:
    if settings.get("peft_type") != "LORA":
        raise _wrong(f"its type is {str(settings.get('peft_type'))[:100]!r}, not LORA")
    for key, value in PLAIN.items():
        if settings.get(key) not in (value, None):
            raise _wrong(f"its {key} is {str(settings[key])[:100]}")
    rank, alphas = settings.get("r"), {"": settings.get("lora_alpha"), **(settings.get("alpha_pattern") or {})}
    if type(rank) is not int or rank < 1 or not all(isinstance(alpha, int | float) for alpha in alphas.values()):
        raise _wrong("r and lora_alpha must be numbers")
    # peft takes them for regular expressions, and what some of these match takes hours to say.
    unclear = [name for name in alphas if not re.fullmatch(r"[\w.]*", name)]
    if unclear:
        raise _wrong(f"its alpha_pattern has {unclear[0][:100]!r}; only module names are supported, not patterns")


def _scale(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """Of a module's own alpha where it has one, under its whole name or the end of it."""
    pattern = settings.get("alpha_pattern") or {}
    alpha = next((pattern[key] for key in pattern if f".{module}".endswith(f".{key}")), settings["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _class_of(family: Family, config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The class that the adapter was trained in, by its task; without one, the model's own."""
    end = ENDS.get(str(settings.get("task_type")))
    own = config.get("architectures") or [""]
    for name in family.architectures:
        if name.endswith(end) if end else name == own[0]:
            return name
    raise _wrong(
        f"its task is {str(settings.get('task_type'))[:100]!r}, but {family.name} has no class for it that can be "
        "pruned"
    )


def _own_name(family: Family, name: str, tensors: Mapping[str, Tensor]) -> str | None:
    """What a tensor of the module tree, of now or of an earlier transformers, is called in the file."""
    said = {name, *(family.saved_as(naming, name) for naming in range(len(family.saved_names)))}
    return next((each for each in tensors if each in said or said & _forms(family, each)), None)


def _forms(family: Family, name: str) -> set[str]:
    return {family.saved_as(naming, name) for naming in range(len(family.saved_names))}


def _labelled(config: Mapping[str, Any], family: Family, name: str, whole: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config with as many labels as the adapter's own head has, named by number where the model's are others."""
    heads = family.architectures[name].classifiers[-1:]
    maps = [
        key for key in sorted(whole) if key.startswith(tuple(f"{head}." for head in heads)) and whole[key].ndim == 2
    ]
    if not maps or len(whole[maps[-1]]) == len(config.get("id2label") or {}):
        return dict(config)
    kept = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
    return {**kept, "num_labels": len(whole[maps[-1]])}


def _wrong(reason: str) -> SecateurError:
    detail = (
        f"The adapter cannot be merged automatically: {reason}. Merge it with peft (`merge_and_unload`), and save "
        "the model."
    )
    return SecateurError(ErrorCode.CONFIG_INVALID, detail)
