"""Converts the blocks' tensors between the stock class and the pruned class where they differ: one map for several (GPT-2's
`c_attn`, ModernBERT's `Wqkv` and `Wi`), and `Conv1D`, whose weights are transposed.

The engine and its pruned classes have a separate linear map for each of q, k, v and each input projection of a block; so have
results in the custom layout.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from api_schemas.results.widths import AttentionWidths
from checkpoints.families import Layout

KINDS = ("weight", "bias")
Named = TypeVar("Named")


def as_pruned(state: Mapping[str, Tensor], layout: Layout, widths: AttentionWidths) -> dict[str, Tensor]:
    """A stock class's state dict in the names and shapes of the pruned class. Tensors may share memory with those of `state`.

    `widths`: of the state's model.
    """
    found = dict(state)
    if layout.transposed:
        _transpose(found, layout)
    for path, parts in layout.joined(widths).items():
        for kind in KINDS:
            if f"{path}.{kind}" in found:
                pieces = found.pop(f"{path}.{kind}").split(list(parts.values()))
                found |= {f"{part}.{kind}": piece for part, piece in zip(parts, pieces, strict=True)}
    return found


def as_stock(state: Mapping[str, Tensor], layout: Layout, widths: AttentionWidths) -> dict[str, Tensor]:
    """The reverse; what is turned is contiguous, as files have it."""
    found = dict(state)
    for path, parts in layout.joined(widths).items():
        for kind in KINDS:
            pieces = [found.pop(f"{part}.{kind}") for part in parts if f"{part}.{kind}" in found]
            if pieces:
                found[f"{path}.{kind}"] = torch.cat(pieces)
    if layout.transposed:
        _transpose(found, layout)
    return found


def of_parts(by_name: Mapping[str, Named], layout: Layout, widths: AttentionWidths) -> dict[str, Named]:
    """What is said of tensors by their name in the stock class, said as well of each that one of them is in the pruned class."""
    found = dict(by_name)
    for path, parts in layout.joined(widths).items():
        for kind in KINDS:
            if f"{path}.{kind}" in found:
                found |= dict.fromkeys([f"{part}.{kind}" for part in parts], found[f"{path}.{kind}"])
    return found


def _transpose(state: dict[str, Tensor], layout: Layout) -> None:
    """Every weight of the blocks, in place of the entries, under the stock class's names."""
    for name in layout.tensors():
        if name.endswith(".weight"):
            state[name] = state[name].mT.contiguous()
