"""The blocks' tensors as the stock class has them, where the pruned class has others: GPT-2's one map for q, k and v, and its
`Conv1D`, whose weights are the other way round.

The engine cuts linear maps for q, k and v each; so does the pruned class keep them, whose files need no other form.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from checkpoints.families import AttentionSite, Layout


def as_pruned(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """A stock class's state dict in the names and shapes of the pruned class. Tensors may share memory with those of `state`."""
    found = dict(state)
    if layout.transposed:
        _transpose(found, layout)
    for site in layout.attention:
        if site.fused is None:
            continue
        for what in ("weight", "bias"):
            whole = found.pop(f"{site.fused}.{what}", None)
            if whole is not None:
                found |= {f"{path}.{what}": part for path, part in zip(_paths(site), whole.chunk(3), strict=True)}
    return found


def as_stock(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The reverse, of a model whose attention is whole."""
    found = dict(state)
    for site in layout.attention:
        if site.fused is None:
            continue
        for what in ("weight", "bias"):
            parts = [found.pop(f"{path}.{what}") for path in _paths(site) if f"{path}.{what}" in found]
            if parts:
                found[f"{site.fused}.{what}"] = torch.cat(parts)
    if layout.transposed:
        _transpose(found, layout)
    return found


def _paths(site: AttentionSite) -> tuple[str, str, str]:
    return site.q, site.k, site.v


def _transpose(state: dict[str, Tensor], layout: Layout) -> None:
    """Every weight of the blocks, in place of the entries, under the stock class's names."""
    for name in layout.tensors():
        if name.endswith(".weight"):
            state[name] = state[name].mT
