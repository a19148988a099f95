"""Weights in several files: the index that says which tensor is in which file, checked against the files' headers."""

import re
from collections.abc import Mapping
from typing import Any

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.files.safetensors_header import TensorInfo

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
SHARD_NAME = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")


def shard_names(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that an index names, in order. Raises CONFIG_INVALID where it is not an index of one whole set."""
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _invalid("it has no weight_map")
    values = list(weight_map.values())
    matches = [SHARD_NAME.fullmatch(value) if isinstance(value, str) else None for value in values]
    if not all(matches):
        raise _invalid("it refers to files other than model-0000x-of-0000y.safetensors")
    names = sorted(set(values))
    if names != [f"model-{n:05d}-of-{len(names):05d}.safetensors" for n in range(1, len(names) + 1)]:
        raise _invalid("its shards are not numbered from 1 to their count")
    return tuple(names)


def merge_shards(index: Mapping[str, Any], headers: Mapping[str, Mapping[str, TensorInfo]]) -> dict[str, TensorInfo]:
    """All tensors of a sharded checkpoint. Offsets stay those of each tensor's own file.

    Raises CONFIG_INVALID where index and headers (by shard name) do not say the same.
    """
    weight_map: dict[str, str] = index["weight_map"]
    merged: dict[str, TensorInfo] = {}
    for shard in shard_names(index):
        for name, tensor in headers[shard].items():
            if weight_map.get(name) != shard:
                raise _invalid(f"tensor {name!r} is in {shard}, but the index says {weight_map.get(name)}")
            merged[name] = tensor.model_copy(update={"file": shard})
    for name in weight_map:
        if name not in merged:
            raise _invalid(f"tensor {name[:100]!r} is not in any shard")
    return merged


def _invalid(reason: str) -> SecateurError:
    return SecateurError(
        ErrorCode.CONFIG_INVALID, f"{INDEX_NAME} does not match the files: {reason}. Save the model again."
    )
