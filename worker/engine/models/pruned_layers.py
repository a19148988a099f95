"""Attention and feed-forward blocks with structurally pruned widths (made by Secateur). Needs transformers >= 5.10.

Every head of every attention has its own width for the query/key pair (QK) and for the value/output pair (VO); an attention may
have no heads at all. `narrow` turns a stock model into one of the widths that its configuration says. Shapes: B batch, T tokens,
D model width, H heads, C channels of all heads, K width of one head.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import EncoderDecoderCache

from .pruned_attention import PrunedAttention
from .pruned_heads import Turns, behind, of_keys, pairs_of, take_heads, turns_of
from .pruned_maps import part, placed, resize


class PrunedSelfAttention(PrunedAttention):
    """Self-attention without anything between the projections but scores and softmax."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        for unused in ("past_key_values", "encoder_hidden_states", "encoder_attention_mask", "key_value_states"):
            if kwargs.pop(unused, None) is not None:
                raise ValueError(f"this attention is an encoder's and takes no {unused}")
        return self.in_calls(hidden_states, hidden_states, attention_mask, **kwargs)


class PrunedCachedAttention(PrunedAttention):
    """A decoder's attention, to its own past or to an encoder's output. With a cache all heads share one padded width: its."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        source = hidden_states if key_value_states is None else key_value_states
        if past_key_values is None:
            return self.in_calls(hidden_states, source, attention_mask, **kwargs)
        cross, known = key_value_states is not None, False
        if isinstance(past_key_values, EncoderDecoderCache):
            known = bool(cross and past_key_values.is_updated.get(self.layer_idx))
            if cross:
                past_key_values.is_updated[self.layer_idx] = True
            past_key_values = past_key_values.cross_attention_cache if cross else past_key_values.self_attention_cache
        if known:
            layer = past_key_values.layers[self.layer_idx]
            key_BHSK, value_BHSK = layer.keys, layer.values
        else:
            key_BHSK, value_BHSK = self.remember(source, past_key_values)
        return self.recall(hidden_states, key_BHSK, value_BHSK, attention_mask, **kwargs)


class PrunedRotaryAttention(PrunedAttention):
    """Self-attention whose queries and keys are rotated by position: the pairs of a head that are left keep their own angles."""

    pairs: list[list[int]]
    """By head, which of the original's pairs it has, as the columns of cosines and sines are numbered."""
    columns: torch.Tensor
    """The same, those of all heads one after another. No buffer: of those that files lack a loader makes new ones."""

    def be_narrow(self, entry: dict[str, Any]) -> None:
        super().be_narrow(entry)
        self.pairs = [pairs_of(own) for own in entry["rotary"]]
        if len(self.pairs) != len(self.heads):
            raise ValueError(f"every head needs its rotated pairs: {self.pairs}")
        # Said, for a model may be made where tensors have no memory unless they ask for some.
        self.columns = self.columns_on(torch.device("cpu"))

    def columns_on(self, device: torch.device) -> torch.Tensor:
        """The columns, on a device."""
        return torch.tensor([pair for own in self.pairs for pair in own], dtype=torch.long, device=device)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # As a buffer would, they go where the module goes: at a pass a GPU would wait for them.
        device = fn(self.columns).device
        if device != self.columns.device:
            self.columns = self.columns_on(device)
        return super()._apply(fn, recurse)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        turns = self.turns(*behind(position_embeddings, hidden_states)) if self.heads else None
        kwargs = {**self.settings(), **kwargs}
        output, weights = self.in_calls(hidden_states, hidden_states, attention_mask, turns, **kwargs)
        dropout: Any = getattr(self, "out_drop", None)
        return output if dropout is None else dropout(output), weights

    def settings(self) -> dict[str, Any]:
        """What else the stock class tells the attention function: the cap of the scores, if any, and how many tokens it looks
        back, for kernels that compute nothing beyond it where others go by the mask. Some classes read that in the config."""
        window = getattr(self, "sliding_window", getattr(self.config, "sliding_window", None))
        cap: Any = getattr(self, "attn_logit_softcapping", None)
        return {"sliding_window": window, **({} if cap is None else {"softcap": cap})}

    def turns(self, cos_BTR: torch.Tensor, sin_BTR: torch.Tensor) -> Turns:
        """What the heads turn by, of what the stock class computes for whole heads: (B, T, R), every angle twice."""
        if self.columns.device != cos_BTR.device:
            self.columns = self.columns_on(cos_BTR.device)  # the module came there without its `to`
        return turns_of((cos_BTR, sin_BTR), self.pairs, self.columns, self.qk_widths)


class PrunedRotaryCachedAttention(PrunedRotaryAttention):
    """The same in a decoder. With a cache, which holds keys as they are once rotated, all heads share one padded width: its."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if past_key_values is None:
            return super().forward(hidden_states, position_embeddings, attention_mask, **kwargs)
        turns = self.turns(*position_embeddings) if self.heads else None
        past = self.remember(hidden_states, past_key_values, turns)
        return self.recall(hidden_states, *past, attention_mask, turns, **{**self.settings(), **kwargs})


class PrunedNormedRotaryCachedAttention(PrunedRotaryCachedAttention):
    """The same with norms of queries and keys before they are rotated: over all channels of a head, of which none is missing."""

    def project(self, side: str, states: torch.Tensor) -> torch.Tensor:
        projected = super().project(side, states)
        norm: Any = getattr(self, f"{side}_norm", None)
        return projected if norm is None else norm(projected.unflatten(-1, (-1, self.qk_widths[0]))).flatten(-2)


class PrunedGatedAttention(PrunedAttention):
    """WavLM's: relative positions, gated by the layer's input, are added to the scores.

    The first layer computes the positions of all the original's heads and hands them on, so each layer takes out its own.
    Weights, which are computed where `output_attentions` asks for them, are each head's; the stock class gives their mean.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        index: int = 0,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        del index
        weigh = bool(kwargs.get("output_attentions", getattr(self.config, "output_attentions", False)))
        batch, tokens, _ = hidden_states.shape
        original = self.num_heads
        if position_bias is None:
            position_bias = self.compute_bias(tokens, tokens)[None].expand(batch, -1, -1, -1)
        else:
            position_bias = position_bias.view(batch, original, tokens, tokens)
        handed_on = position_bias.reshape(-1, tokens, tokens)
        if not self.heads:
            return *self.without_heads(hidden_states, tokens, weigh=weigh), handed_on
        own_BHTK = take_heads(hidden_states.view(batch, tokens, original, -1), self.heads, 2).transpose(1, 2)
        gates_BHT24 = self.gru_rel_pos_linear(own_BHTK).unflatten(-1, (2, 4))
        first_BHT1, second_BHT1 = torch.sigmoid(gates_BHT24.sum(-1)).chunk(2, dim=-1)
        gate_BHT1 = first_BHT1 * (second_BHT1 * self.gru_rel_pos_const - 1.0) + 2.0
        bias_BHTT = gate_BHT1 * take_heads(position_bias, self.heads, 1)
        if attention_mask is not None:
            bias_BHTT = bias_BHTT.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        context_BTC, weights = self.with_bias(hidden_states, bias_BHTT, weigh=weigh)
        return self.project("o", context_BTC), weights, handed_on


class PrunedWindowAttention(PrunedAttention):
    """Swin's, inside windows: a table of relative positions, with a column for every head, is added to the scores."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = False,
    ) -> tuple[torch.Tensor, ...]:
        """(B · windows, T, D), the windows of one input one after another; `attention_mask` is (windows, T, T)."""
        rows, tokens, _ = hidden_states.shape
        if not self.heads:
            context, weights = self.without_heads(hidden_states, tokens, weigh=bool(output_attentions))
            return (context,) if weights is None else (context, weights)
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias_1HTT = table.view(tokens, tokens, -1).permute(2, 0, 1)[None]
        if attention_mask is not None:
            windows = attention_mask.shape[0]
            bias_1HTT = (bias_1HTT + attention_mask[:, None]).repeat(rows // windows, 1, 1, 1)
        context_BTC, weights_BHTT = self.with_bias(hidden_states, bias_1HTT, weigh=bool(output_attentions))
        context_BTC = self.project("o", context_BTC)
        return (context_BTC,) if weights_BHTT is None else (context_BTC, weights_BHTT)


class PrunedSharedAttention(PrunedAttention):
    """MPNet's: relative positions, which the encoder has of all the original's heads for all layers, are added to the scores."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: Any, position_bias: Any, output_attentions: bool = False
    ) -> tuple[torch.Tensor, ...]:
        if not self.heads:
            context, weights = self.without_heads(hidden_states, hidden_states.shape[1], weigh=output_attentions)
        else:
            bias_BHTT = take_heads(position_bias, self.heads, 1)
            if attention_mask is not None:
                bias_BHTT = bias_BHTT + attention_mask
            context_BTC, weights = self.with_bias(hidden_states, bias_BHTT, weigh=output_attentions)
            context = self.project("o", context_BTC)
        return (context,) if weights is None else (context, weights)


class PrunedRelativeAttention(PrunedAttention):
    """A conformer's: dot products of queries and relative positions are added to the scores, as those of queries and keys are.

    Wav2Vec2-Conformer makes them of sines by a map, and has one bias of queries for keys and one for positions (Dai et al., arXiv
    1901.02860, §3.3); Wav2Vec2-BERT has a table of them, which all heads share. Heads have all their QK channels.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        relative_position_embeddings: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        weigh = self.config._attn_implementation == "eager"
        if not self.heads:
            return self.without_heads(hidden_states, hidden_states.shape[1], weigh=weigh)
        query_BTC = self.project("q", hidden_states)
        query_BTHK = query_BTC.unflatten(-1, (len(self.heads), -1))
        if relative_position_embeddings is None:
            # From the key that is furthest behind a query to the one furthest before it: (1, K, P).
            last = hidden_states.shape[1] - 1
            far = torch.arange(-last, last + 1, device=hidden_states.device)
            far = far.clamp(-self.left_max_position_embeddings, self.right_max_position_embeddings)
            positions_HKP = self.distance_embedding(far + self.left_max_position_embeddings).mT[None]
            toward_BTHK = query_BTHK
        else:
            # One input's are all inputs'.
            positions_PC = self.linear_pos(relative_position_embeddings)[0]
            positions_HKP = positions_PC.unflatten(-1, (len(self.heads), -1)).permute(1, 2, 0)
            toward_BTHK = query_BTHK + self.pos_bias_v
            query_BTC = (query_BTHK + self.pos_bias_u).flatten(-2)
        bias_BHTT = of_keys(toward_BTHK.transpose(1, 2) @ positions_HKP) * self.softmax_scale()
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            bias_BHTT = torch.where(attention_mask, bias_BHTT, torch.finfo(bias_BHTT.dtype).min)
        elif attention_mask is not None:
            bias_BHTT = bias_BHTT + attention_mask
        context_BTC, weights = self.with_bias(hidden_states, bias_BHTT, weigh=weigh, query_BTC=query_BTC)
        return self.project("o", context_BTC), weights


class PrunedRotatedInputAttention(PrunedAttention):
    """Wav2Vec2-Conformer's, where rotary positions turn what goes into q and k, in as many parts as the original has heads.

    What comes out is not turned, so heads are cut as if there were no positions.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        relative_position_embeddings: torch.Tensor,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        turned_BTD = self._apply_rotary_embedding(hidden_states, relative_position_embeddings)
        return self.in_calls(turned_BTD, turned_BTD, attention_mask, values_BSD=hidden_states, **kwargs)


KINDS: dict[str, type[PrunedAttention]] = {
    "self": PrunedSelfAttention,
    "cached": PrunedCachedAttention,
    "rotary": PrunedRotaryAttention,
    "rotary_cached": PrunedRotaryCachedAttention,
    "normed_rotary_cached": PrunedNormedRotaryCachedAttention,
    "gated_positions": PrunedGatedAttention,
    "windowed": PrunedWindowAttention,
    "shared_positions": PrunedSharedAttention,
    "relative_positions": PrunedRelativeAttention,
    "rotated_input": PrunedRotatedInputAttention,
}


def narrow(model: nn.Module, attention: Sequence[dict[str, Any]], feed_forward: Sequence[dict[str, Any]]) -> None:
    """Give a stock model the widths of its configuration, in place; weights that change shape become new ones, to be loaded.

    Each attention stays the module it was, with its other parts; its class becomes one that is both a pruned attention and the
    stock one. Paths are those of the class that was pruned: `model` may as well be its encoder alone, or that under another head.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a layer without heads
        for entry in placed(model, attention, ("module", *"qkvo", "joined", "positions")):
            part(model, entry.get("joined"), [entry[side] for side in "qkv"])
            module: Any = model.get_submodule(entry["module"])
            narrow_attention(module, entry)
            if module.config is None:
                module.config = model.config
            widths = {"q": module.query_widths, "k": entry["qk"], "v": entry["vo"], "o": module.context_widths}
            for side, of_heads in widths.items():
                resize(model, entry[side], sum(of_heads), rows=side != "o")
            if "positions" in entry:
                resize(model, entry["positions"], sum(entry["qk"]), rows=True)
        for entry in placed(model, feed_forward, ("second", "first", "up", "joined")):
            inner = [entry[path] for path in ("first", "up") if path in entry]
            part(model, entry.get("joined"), inner)
            for path in inner:
                resize(model, path, entry["neurons"], rows=True)
            resize(model, entry["second"], entry["neurons"], rows=False)


@cache
def pruned_class(kind: str, stock: Any) -> Any:
    """A class that is both the pruned attention of a kind and a stock one."""
    own = {"__module__": __name__, "made_of": (kind, stock), "__reduce__": _reduced}
    return type(f"Pruned{stock.__name__}", (KINDS[kind], stock), own)


def _reduced(attention: PrunedAttention) -> tuple[Any, ...]:
    """What `pickle` and `copy` make one of. Its class has no name that could be imported: it is made anew."""
    return _empty, attention.made_of, attention.__dict__


def _empty(kind: str, stock: Any) -> Any:
    """An object of that class with nothing in it yet: what `pickle` and `copy` start from."""
    made = pruned_class(kind, stock)
    return made.__new__(made)


def narrow_attention(module: nn.Module, entry: dict[str, Any]) -> None:
    """The attention itself, without its projections."""
    if not isinstance(module, KINDS[entry["kind"]]):
        stock: Any = type(module)
        module.__class__ = pruned_class(entry["kind"], stock)
    assert isinstance(module, PrunedAttention)
    module.be_narrow(entry)
    for name, dimension in entry.get("per_head", {}).items():
        whole = getattr(module, name)
        size = list(whole.shape)
        size[dimension] = len(entry["heads"])
        setattr(module, name, nn.Parameter(torch.zeros(size, dtype=whole.dtype, device=whole.device)))
