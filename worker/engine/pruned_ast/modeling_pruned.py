"""Audio Spectrogram Transformer with structurally pruned attention (made by Secateur). Needs transformers >= 5.10.

Every layer has its own number of heads, and its own width for the query/key pair (QK) and the value/output pair (VO).
Shapes: B batch, T tokens, H heads of this layer, K width.
"""

from typing import Any

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


class PrunedASTAttention(ASTAttention):
    """Self-attention with `qk[h]` query/key channels and `vo[h]` value/output channels in head h."""

    def __init__(self, config: PrunedASTConfig, qk: list[int], vo: list[int]) -> None:
        super().__init__(config)
        if not qk or len(qk) != len(vo) or len(set(qk)) != 1 or len(set(vo)) != 1:
            raise ValueError(f"heads of one layer must be equally wide: qk={qk}, vo={vo}")
        hidden = config.hidden_size
        self.num_attention_heads = len(qk)
        self.qk_width, self.vo_width = qk[0], vo[0]
        # The scale of the original model: cutting channels must not change the temperature of the softmax.
        self.head_dim = config.attention_head_dim or config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.q_proj = nn.Linear(hidden, sum(qk), bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, sum(qk), bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, sum(vo), bias=config.qkv_bias)
        self.o_proj = nn.Linear(sum(vo), hidden, bias=True)

    def _heads(self, states: torch.Tensor, width: int, padded: int) -> torch.Tensor:
        """(B, T, H·K) -> (B, H, T, padded), zeros in the padding."""
        states = states.view(*states.shape[:-1], self.num_attention_heads, width)
        if padded != width:
            states = functional.pad(states, (0, padded - width))
        return states.transpose(1, 2)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # The fused kernels want one width for query, key and value; with unequal widths torch falls back to a kernel
        # two to three times slower. Zero columns change neither the dot products nor the values that are kept.
        fused = self.config._attn_implementation != "eager"
        widest = max(self.qk_width, self.vo_width)
        qk_padded, vo_padded = (widest, widest) if fused else (self.qk_width, self.vo_width)
        query = self._heads(self.q_proj(hidden_states), self.qk_width, qk_padded)
        key = self._heads(self.k_proj(hidden_states), self.qk_width, qk_padded)
        value = self._heads(self.v_proj(hidden_states), self.vo_width, vo_padded)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        context, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        context = context[..., : self.vo_width].reshape(*hidden_states.shape[:-1], -1)
        return self.o_proj(context), weights


class PrunedASTForAudioClassification(ASTForAudioClassification):
    """ASTForAudioClassification with every layer's attention as wide as the configuration says."""

    config_class = PrunedASTConfig
    config: PrunedASTConfig

    def __init__(self, config: PrunedASTConfig) -> None:
        super().__init__(config)
        layers = self.audio_spectrogram_transformer.layers
        for layer, widths in zip(layers, config.attention_widths or [], strict=True):
            layer.attention = PrunedASTAttention(config, widths["qk"], widths["vo"])
        self.post_init()
