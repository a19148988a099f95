"""Attention in a form suited to graphs: heads of unequal widths as a few plain matrix products.

Shapes: B batch, T tokens, D model width, C channels of all heads, H heads of a group, K width of one head.
"""

import copy
import warnings
from collections.abc import Sequence
from itertools import accumulate, combinations, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from checkpoints.families import AttentionKind
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.models.model_spec import move_model

PADDING = 0.25
"""Zeros that a layer's groups may add, as a share of its own attention parameters."""


def head_groups(qk: Sequence[int], vo: Sequence[int]) -> list[tuple[int, ...]]:
    """Heads that share a matrix product: those of equal widths, and more for as long as the zeros stay within PADDING.

    Every group costs some ten nodes of the graph, and every zero the room of a weight in the file.
    """

    def channels(heads: Sequence[int]) -> int:
        return len(heads) * (max(qk[head] for head in heads) + max(vo[head] for head in heads))

    def added(pair: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
        return channels(pair[0] + pair[1]) - channels(pair[0]) - channels(pair[1])

    widths = list(zip(qk, vo, strict=True))
    groups = [tuple(head for head, own in enumerate(widths) if own == pair) for pair in dict.fromkeys(widths)]
    left = PADDING * (sum(qk) + sum(vo))
    while len(groups) > 1:
        pair = min(combinations(groups, 2), key=added)
        left -= added(pair)
        if left < 0:
            break
        groups = [group for group in groups if group not in pair] + [tuple(sorted(pair[0] + pair[1]))]
    return sorted(groups)


def for_export(loaded: LoadedModel) -> PreTrainedModel:
    """A copy of the model on the CPU that computes the same, with GroupedAttention for plain self-attention.

    Taken head by head, as in the model's own code, a large model of unequal heads is a graph of ten thousand nodes, which takes
    minutes to make. Attention of other kinds (a decoder's, relative positions, windows) is left as it is.
    """
    model: PreTrainedModel = move_model(copy.deepcopy(loaded.model), torch.device("cpu")).eval()
    sites = loaded.model_spec.layout_of(model).attention
    for site, block in zip(sites, attention_blocks(model, loaded.model_spec, loaded.widths), strict=True):
        if site.kind is not AttentionKind.SELF:
            continue
        own: Any = model.get_submodule(site.module)
        groups = head_groups(block.widths.qk, block.widths.vo)
        grouped = GroupedAttention(block, groups, own.softmax_scale())
        if not site.o.startswith(f"{site.module}."):
            # Another module applies it.
            model.set_submodule(site.o, grouped.o)
            grouped.o = nn.Identity()
        model.set_submodule(site.module, grouped)
    return model


class Bias(nn.Module):
    """Stands for a linear map without inputs: its bias, or nothing, for every token."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.bias = nn.Parameter(bias.clone())

    def forward(self, states_BTC: Tensor) -> Tensor:
        """(B, T, anything) -> (B, T, D)."""
        return self.bias.expand(*states_BTC.shape[:2], -1)


class GroupedAttention(nn.Module):
    """Self-attention by groups of heads, each head padded to the widest of its group by zeros in the weights.

    Zeros change neither dot products nor what is put out, and cost no copies when the graph runs. There is no mask.
    """

    def __init__(self, block: AttentionBlock, groups: Sequence[Sequence[int]], scale: float) -> None:
        """`scale` of the softmax is folded into W_q and b_q. `groups` name every head of the block once."""
        super().__init__()
        self.heads = [len(heads) for heads in groups]
        self.qk = [max(block.widths.qk[head] for head in heads) for heads in groups]
        self.vo = [max(block.widths.vo[head] for head in heads) for heads in groups]
        self.q, self.k = (_padded(block, side, groups, self.qk) for side in "qk")
        self.v = _padded(block, "v", groups, self.vo)
        self.o: nn.Module = _padded(block, "o", groups, self.vo) if groups else Bias(block.projections["o"])
        with torch.no_grad():
            for parameter in self.q.parameters():
                parameter.mul_(scale)

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """(B, T, D) -> (B, T, D), like the attention that it stands for."""
        if not self.heads:
            return self.o(hidden_states), None
        parts = zip(
            self.heads,
            _split(self.q(hidden_states), self.heads, self.qk),
            _split(self.k(hidden_states), self.heads, self.qk),
            _split(self.v(hidden_states), self.heads, self.vo),
            strict=True,
        )
        contexts = []
        for heads, query_BTC, key_BTC, value_BTC in parts:
            query_BHTK, key_BHTK, value_BHTK = (
                states.unflatten(-1, (heads, -1)).transpose(1, 2) for states in (query_BTC, key_BTC, value_BTC)
            )
            weights_BHTT = (query_BHTK @ key_BHTK.transpose(2, 3)).softmax(dim=-1)
            contexts.append((weights_BHTT @ value_BHTK).transpose(1, 2).flatten(-2))
        return self.o(torch.cat(contexts, dim=-1) if len(contexts) > 1 else contexts[0]), None


def _split(states_BTC: Tensor, heads: Sequence[int], widths: Sequence[int]) -> Sequence[Tensor]:
    """The channels of each group."""
    if len(heads) == 1:
        return [states_BTC]
    parts: Sequence[Tensor] = states_BTC.split(
        [count * width for count, width in zip(heads, widths, strict=True)], dim=-1
    )
    return parts


def _padded(block: AttentionBlock, side: str, groups: Sequence[Sequence[int]], widths: Sequence[int]) -> nn.Linear:
    """One projection with its heads in the order of `groups`, each as wide as its group's entry in `widths`."""
    source = block.projections[side]
    places = [(head, width) for heads, width in zip(groups, widths, strict=True) for head in heads]
    starts = list(accumulate((width for _, width in places), initial=0))
    ends = (starts[-1], source.out_features) if side == "o" else (source.in_features, starts[-1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a layer without heads
        target = nn.Linear(*ends, bias=source.bias is not None)
        target.weight.zero_()
        if side == "o":
            if source.bias is not None:
                target.bias.copy_(source.bias)
        elif source.bias is not None:
            target.bias.zero_()
        for (head, _), (start, _stop) in zip(places, pairwise(starts), strict=True):
            rows = block.rows(side, head)
            new = slice(start, start + rows.stop - rows.start)
            if side == "o":
                target.weight[:, new] = source.weight[:, rows]
                continue
            target.weight[new] = source.weight[rows]
            if source.bias is not None:
                target.bias[new] = source.bias[rows]
    return target
