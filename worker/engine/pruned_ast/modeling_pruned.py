"""Audio Spectrogram Transformer with structurally pruned attention (made by Secateur). Needs transformers >= 5.10.

Every head of every layer has its own width for the query/key pair (QK) and for the value/output pair (VO); a layer may have
no heads at all. Shapes: B batch, T tokens, D model width, H heads, C channels of all heads, K width of one head.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import ASTForAudioClassification
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTAttention,
    eager_attention_forward,
)

from .configuration_pruned import PrunedASTConfig

# What decides how heads of unequal width share calls of the attention kernel; measured, docs/results/latency.md.
SOFTMAX_CHANNELS = 12  # a head's softmax takes the time of this many channels
CALL_FLOPS = 64_000_000  # one more call, and a head in it, is worth this many floating-point operations
ALIGN, NARROWEST = 8, 16  # kernels are slower at other multiples, and no faster below


class HeadGroup(NamedTuple):
    """Heads that go through the attention kernel together, each padded with zeros to `width`."""

    heads: tuple[int, ...]
    width: int


def head_groups(qk: Sequence[int], vo: Sequence[int], tokens: int) -> tuple[HeadGroup, ...]:
    """The calls of the attention kernel that one layer makes: which heads share one, and how wide all of them are in it.

    The fused kernels want one width for query, key and value of all heads; with unequal widths torch falls back to a kernel
    two to three times slower. Few calls pad much, many calls start much: the cheapest split of the heads, sorted by width,
    is taken, at 4·T²·(width + SOFTMAX_CHANNELS) a head and CALL_FLOPS a call.
    """
    widest = [max(pair) for pair in zip(qk, vo, strict=True)]
    if len({*qk, *vo}) == 1 and widest[0] % 4 == 0:
        return (HeadGroup(tuple(range(len(qk))), widest[0]),)  # nothing to copy beats a better width
    order = sorted(range(len(widest)), key=lambda head: (widest[head], head))
    padded = [max(NARROWEST, -(-widest[head] // ALIGN) * ALIGN) for head in order]
    # best[n]: cost of the n narrowest heads and where their last group starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        head_cost = 4 * tokens**2 * (padded[end - 1] + SOFTMAX_CHANNELS)
        best.append(min((best[start][0] + CALL_FLOPS + (end - start) * head_cost, start) for start in range(end)))
    groups: list[HeadGroup] = []
    end = len(order)
    while end:
        start = best[end][1]
        groups.insert(0, HeadGroup(tuple(sorted(order[start:end])), padded[end - 1]))
        end = start
    return tuple(groups)


class _Call(NamedTuple):
    """One call of the attention function: its heads, and how wide they are in it."""

    heads: tuple[int, ...]
    qk: int
    vo: int


class PrunedASTAttention(ASTAttention):
    """Self-attention with `qk[h]` query/key channels and `vo[h]` value/output channels in head h; maybe no heads."""

    def __init__(self, config: PrunedASTConfig, qk: list[int], vo: list[int], tokens: int) -> None:
        super().__init__(config)
        if len(qk) != len(vo) or min([*qk, *vo], default=1) < 1:
            raise ValueError(f"every head needs a QK and a VO width of at least 1: qk={qk}, vo={vo}")
        hidden = config.hidden_size
        self.num_attention_heads = len(qk)
        self.qk_widths, self.vo_widths = list(qk), list(vo)
        self.fused_calls = [_Call(heads, width, width) for heads, width in head_groups(qk, vo, tokens)]
        # The plain function takes any widths: nothing is padded, heads of the same widths go together.
        pairs = list(zip(qk, vo, strict=True))
        self.eager_calls = [
            _Call(tuple(head for head, own in enumerate(pairs) if own == pair), *pair) for pair in dict.fromkeys(pairs)
        ]
        # The scale of the original model: cutting channels must not change the temperature of the softmax.
        self.head_dim = config.attention_head_dim or config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a layer without heads
            self.q_proj = nn.Linear(hidden, sum(qk), bias=config.qkv_bias)
            self.k_proj = nn.Linear(hidden, sum(qk), bias=config.qkv_bias)
            self.v_proj = nn.Linear(hidden, sum(vo), bias=config.qkv_bias)
            self.o_proj = nn.Linear(sum(vo), hidden, bias=True)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        eager = self.config._attn_implementation == "eager"
        calls = self.eager_calls if eager else self.fused_calls
        if not calls:
            batch, tokens, _ = hidden_states.shape
            # An empty entry, so that `outputs.attentions` has one for every layer.
            nothing = hidden_states.new_zeros(batch, 0, tokens, tokens) if eager else None
            return torch.zeros_like(hidden_states) + self.o_proj.bias, nothing
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        query_BTC, key_BTC, value_BTC = (project(hidden_states) for project in (self.q_proj, self.k_proj, self.v_proj))
        contexts, weights = [], []
        for heads, qk, vo in calls:
            context_BTHK, weights_BHTT = attend(
                self,
                _heads(query_BTC, self.qk_widths, heads, qk),
                _heads(key_BTC, self.qk_widths, heads, qk),
                _heads(value_BTC, self.vo_widths, heads, vo),
                attention_mask,
                dropout=self.attention_dropout if self.training else 0.0,
                scaling=self.scaling,
                **kwargs,
            )
            contexts.append(context_BTHK)
            weights.append(weights_BHTT)
        order = [head for call in calls for head in call.heads]
        if eager and len(calls) > 1:
            weights = [torch.cat(weights, dim=1)[:, [order.index(head) for head in range(len(order))]]]
        output_BTD: torch.Tensor = self.o_proj(_joined(contexts, self.vo_widths, calls))
        return output_BTD, weights[0]


def _heads(states_BTC: torch.Tensor, widths: list[int], heads: tuple[int, ...], padded: int) -> torch.Tensor:
    """(B, T, C) -> (B, H, T, K), K = padded: some of the heads, with zeros where a head is narrower.

    Zeros change neither the dot products nor the values that are kept.
    """
    first, width = heads[0], widths[heads[0]]
    if heads == tuple(range(first, first + len(heads))) and all(widths[head] == width for head in heads):
        start = sum(widths[:first])
        states_BTHK: torch.Tensor = states_BTC[..., start : start + width * len(heads)].unflatten(
            -1, (len(heads), width)
        )
        if width < padded:
            states_BTHK = functional.pad(states_BTHK, (0, padded - width))
        return states_BTHK.transpose(1, 2)
    # One copy: heads and zeros in turn. An index would be simpler, and takes three times as long; its gradient, five.
    own = torch.split_with_sizes(states_BTC, widths, dim=-1)
    zero_BT1 = torch.zeros_like(states_BTC[..., :1])
    parts = []
    for head in heads:
        parts.append(own[head])
        if widths[head] < padded:
            parts.append(zero_BT1.expand(-1, -1, padded - widths[head]))
    joined_BTHK: torch.Tensor = torch.cat(parts, dim=-1).unflatten(-1, (len(heads), padded))
    return joined_BTHK.transpose(1, 2)


def _joined(contexts_BTHK: list[torch.Tensor], widths: list[int], calls: Sequence[_Call]) -> torch.Tensor:
    """Each call's (B, T, H, K) -> (B, T, C): the heads in their order again, without the padding."""
    if len(calls) == 1 and len(set(widths)) == 1:
        return contexts_BTHK[0][..., : widths[0]].flatten(-2)
    own = {
        head: context_BTHK[:, :, place, : widths[head]]
        for context_BTHK, call in zip(contexts_BTHK, calls, strict=True)
        for place, head in enumerate(call.heads)
    }
    return torch.cat([own[head] for head in range(len(widths))], dim=-1)


class PrunedASTForAudioClassification(ASTForAudioClassification):
    """ASTForAudioClassification with every layer's attention as wide as the configuration says."""

    config_class = PrunedASTConfig
    config: PrunedASTConfig

    def __init__(self, config: PrunedASTConfig) -> None:
        super().__init__(config)
        encoder = self.audio_spectrogram_transformer
        tokens = encoder.embeddings.position_embeddings.shape[1]
        for layer, widths in zip(encoder.layers, config.attention_widths or [], strict=True):
            layer.attention = PrunedASTAttention(config, widths["qk"], widths["vo"], tokens)
        self.post_init()
