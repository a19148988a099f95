"""What all pruned attentions share: one attention with structurally pruned heads (made by Secateur).

This file lies in every pruned checkpoint beside pruned_layers.py, and needs torch and transformers alone. Shapes: B batch, T
tokens, S tokens of what is attended to, D model width, H heads, C channels of all heads, K width of one head.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .pruned_heads import (
    Call,
    Turns,
    cached_width,
    dropout_of,
    eager_attention,
    head_groups,
    in_order,
    join_heads,
    of_queries,
    rotate,
    split_heads,
    take_heads,
)


class PrunedAttention(nn.Module):
    """What all pruned attentions share. Mixed into a stock attention, whose other parts and settings stay as they are.

    `names` are the attributes of q, k, v and, where the module applies it itself, o.
    """

    made_of: tuple[str, type[Any]]
    names: dict[str, str | None]
    qk_widths: list[int]
    vo_widths: list[int]
    heads: list[int]
    queries: int
    """Heads of queries for each head of keys and values. `query_widths` are their QK widths, `context_widths` their VO widths."""
    query_widths: list[int]
    context_widths: list[int]
    cached_width: int
    fused_calls: list[Call]
    eager_calls: list[Call]
    # What the stock module brings.
    config: Any = None
    layer_idx: Any
    num_heads: int
    attention_head_size: int
    compute_bias: Any
    _apply_rotary_embedding: Any
    gru_rel_pos_linear: Any
    gru_rel_pos_const: Any
    linear_pos: Any
    pos_bias_u: Any
    pos_bias_v: Any
    distance_embedding: Any
    left_max_position_embeddings: int
    right_max_position_embeddings: int
    relative_position_bias_table: Any
    relative_position_index: Any

    def be_narrow(self, entry: dict[str, Any]) -> None:
        """Take the widths of a configuration's entry; the projections are replaced by whoever owns them."""
        qk, vo = entry["qk"], entry["vo"]
        if len(qk) != len(vo) or min([*qk, *vo], default=1) < 1:
            raise ValueError(f"every head needs a QK and a VO width of at least 1: qk={qk}, vo={vo}")
        inside = f"{entry['module']}."
        self.names = {
            side: entry[side].removeprefix(inside) if entry[side].startswith(inside) else None for side in "qkvo"
        }
        self.qk_widths, self.vo_widths, self.heads = list(qk), list(vo), list(entry["heads"])
        self.queries = entry.get("queries", 1)
        self.query_widths = [width for width in qk for _ in range(self.queries)]
        self.context_widths = [width for width in vo for _ in range(self.queries)]
        self.cached_width = cached_width(qk, vo)
        groups = head_groups(qk, vo, self.queries * entry["pairs"])
        self.fused_calls = [Call(heads, width, width) for heads, width in groups]
        # The plain function takes any widths: nothing is padded, heads of the same widths go together.
        pairs = list(zip(qk, vo, strict=True))
        self.eager_calls = [
            Call(tuple(head for head, own in enumerate(pairs) if own == pair), *pair) for pair in dict.fromkeys(pairs)
        ]

    def project(self, side: str, states: torch.Tensor) -> torch.Tensor:
        """One projection; of o, the states themselves where another module applies it."""
        name = self.names[side]
        # Not get_submodule, which looks up every part of the path three times.
        projected: torch.Tensor = states if name is None else attrgetter(name)(self)(states)
        # GPT-2's attention applies its dropout behind o itself.
        after: Any = getattr(self, "resid_dropout", None) if side == "o" else None
        return projected if after is None else after(projected)

    def softmax_scale(self) -> float:
        """Of the original model: cutting channels must not change the temperature of the softmax."""
        scale: Any = getattr(self, "scaling", getattr(self, "scale", None))
        if scale is None:
            size: Any = getattr(self, "attention_head_size", None) or self.head_dim
            scale = size**-0.5
        return float(scale)

    def without_heads(
        self, states_BTD: torch.Tensor, keys: int, *, weigh: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What comes of no heads at all; weights as well, empty, so that `outputs.attentions` has some of every layer."""
        batch, tokens, _ = states_BTD.shape
        weights = states_BTD.new_zeros(batch, 0, tokens, keys) if weigh else None
        return self.project("o", states_BTD.new_zeros(batch, tokens, 0)), weights

    def in_calls(
        self,
        states_BTD: torch.Tensor,
        source_BSD: torch.Tensor,
        attention_mask: torch.Tensor | None,
        turns: Turns | None = None,
        values_BSD: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `states` to `source` through transformers' attention function, heads together as `head_groups` has them.

        Returns its output, (B, T, D), and where attention is eager the weights, (B, H, T, S). `turns` rotate queries and keys.
        `values_BSD`: what values are made of, where that is not what keys are.
        """
        implementation = self.config._attn_implementation  # once: a configuration of transformers is slow to read
        eager = implementation == "eager"
        calls = self.eager_calls if eager else self.fused_calls
        if not calls:
            return self.without_heads(states_BTD, source_BSD.shape[1], weigh=eager)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        dropout, scaling = dropout_of(self), self.softmax_scale()
        query_BTC = self.project("q", states_BTD)
        key_BSC = self.project("k", source_BSD)
        value_BSC = self.project("v", source_BSD if values_BSD is None else values_BSD)
        if turns is not None:
            query_BTC = rotate(query_BTC, self.query_widths, turns.each(self.queries))
            key_BSC = rotate(key_BSC, self.qk_widths, turns)
        contexts, weights = [], []
        for heads, qk, vo in calls:
            context_BTHK, weights_BHTS = attend(
                self,
                split_heads(query_BTC, self.query_widths, of_queries(heads, self.queries), qk),
                split_heads(key_BSC, self.qk_widths, heads, qk),
                split_heads(value_BSC, self.vo_widths, heads, vo),
                attention_mask,
                dropout=dropout,
                scaling=scaling,
                **kwargs,
            )
            contexts.append(context_BTHK)
            weights.append(weights_BHTS)
        of_calls = [Call(of_queries(call.heads, self.queries), call.qk, call.vo) for call in calls]
        attended = in_order(weights, of_calls) if eager else None
        return self.project("o", join_heads(contexts, self.context_widths, of_calls)), attended

    def remember(
        self, source_BSD: torch.Tensor, past_key_values: Any, turns: Turns | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of `source` behind those that a cache has of this layer, which keeps them: (B, H, S, K) each."""
        everyone, width = tuple(range(len(self.heads))), self.cached_width
        # The cache tells how many tokens it has seen by what it holds; without heads it still has to hold something.
        key_BHSK = value_BHSK = source_BSD.new_zeros(len(source_BSD), 1, source_BSD.shape[1], 1)
        if everyone:
            key_BSC, value_BSC = (self.project(side, source_BSD) for side in "kv")
            if turns is not None:
                key_BSC = rotate(key_BSC, self.qk_widths, turns)
            key_BHSK = split_heads(key_BSC, self.qk_widths, everyone, width)
            value_BHSK = split_heads(value_BSC, self.vo_widths, everyone, width)
        found: tuple[torch.Tensor, torch.Tensor] = past_key_values.update(key_BHSK, value_BHSK, self.layer_idx)
        return found

    def recall(
        self,
        states_BTD: torch.Tensor,
        key_BHSK: torch.Tensor,
        value_BHSK: torch.Tensor,
        attention_mask: torch.Tensor | None,
        turns: Turns | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `states` to keys and values of a cache, as `in_calls` otherwise."""
        implementation = self.config._attn_implementation
        if not self.heads:
            return self.without_heads(states_BTD, key_BHSK.shape[2], weigh=implementation == "eager")
        everyone, width = tuple(range(len(self.query_widths))), self.cached_width
        query_BTC = self.project("q", states_BTD)
        if turns is not None:
            query_BTC = rotate(query_BTC, self.query_widths, turns.each(self.queries))
        context_BTHK, weights = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)(
            self,
            split_heads(query_BTC, self.query_widths, everyone, width),
            key_BHSK,
            value_BHSK,
            attention_mask,
            dropout=dropout_of(self),
            scaling=self.softmax_scale(),
            **kwargs,
        )
        joined_BTC = join_heads([context_BTHK], self.context_widths, [Call(everyone, width, width)])
        return self.project("o", joined_BTC), weights

    def with_bias(
        self,
        states_BTD: torch.Tensor,
        bias_BHTT: torch.Tensor,
        *,
        weigh: bool,
        query_BTC: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `states` to themselves, with `bias` added to the scores.

        Returns its output as `project` takes it, (B, T, C), and where it is to `weigh` the weights, (B, H, T, T).
        `query_BTC`: the queries, where they are more than what q makes of `states`.
        """
        query_BTC = self.project("q", states_BTD) if query_BTC is None else query_BTC
        key_BTC, value_BTC = (self.project(side, states_BTD) for side in "kv")
        calls = self.eager_calls if weigh else self.fused_calls
        contexts, weights = [], []
        for heads, qk, vo in calls:
            parts = (
                split_heads(query_BTC, self.qk_widths, heads, qk),
                split_heads(key_BTC, self.qk_widths, heads, qk),
                split_heads(value_BTC, self.vo_widths, heads, vo),
            )
            own_BHTT = bias_BHTT if len(heads) == len(self.heads) else take_heads(bias_BHTT, heads, 1)
            scale, dropout = self.softmax_scale(), dropout_of(self)
            if weigh:
                context_BTHK, weights_BHTT = eager_attention(self, *parts, own_BHTT, scaling=scale, dropout=dropout)
                weights.append(weights_BHTT)
            else:
                context_BHTK = functional.scaled_dot_product_attention(
                    *parts, attn_mask=own_BHTT, dropout_p=dropout, scale=scale
                )
                context_BTHK = context_BHTK.transpose(1, 2)
            contexts.append(context_BTHK)
        return join_heads(contexts, self.vo_widths, calls), in_order(weights, calls) if weigh else None
