"""Attention and feed-forward blocks with structurally pruned widths (made by Secateur). Needs transformers >= 5.10.

Every head of every attention has its own width for the query/key pair (QK) and for the value/output pair (VO); an attention may
have no heads at all. `narrow` turns a stock model into one of the widths that its configuration says. Shapes: B batch, T tokens,
D model width, H heads, C channels of all heads, K width of one head.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers import EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# What decides how heads of unequal width share calls of the attention kernel; measured, docs/results/latency.md.
SOFTMAX_CHANNELS = 12  # a head's softmax takes the time of this many channels
CALL_FLOPS = 64_000_000  # one more call, and a head in it, is worth this many floating-point operations
ALIGN, NARROWEST = 8, 16  # kernels are slower at other multiples, and no faster below


class HeadGroup(NamedTuple):
    """Heads that go through the attention kernel together, each padded with zeros to `width`."""

    heads: tuple[int, ...]
    width: int


def head_groups(qk: Sequence[int], vo: Sequence[int], pairs: int) -> tuple[HeadGroup, ...]:
    """The calls of the attention kernel that one attention makes: which heads share one, and how wide all of them are in it.

    The fused kernels want one width for query, key and value of all heads; with unequal widths torch falls back to a kernel
    two to three times slower. Few calls pad much, many calls start much: the cheapest split of the heads, sorted by width,
    is taken, at 4·pairs·(width + SOFTMAX_CHANNELS) a head and CALL_FLOPS a call; `pairs` are the query-key pairs of one input.
    """
    widest = [max(pair) for pair in zip(qk, vo, strict=True)]
    if len(set(qk)) == len(set(vo)) == 1 and widest[0] % 4 == 0:
        return (HeadGroup(tuple(range(len(qk))), widest[0]),)  # little to copy, or nothing, beats a better width
    order = sorted(range(len(widest)), key=lambda head: (widest[head], head))
    padded = [max(NARROWEST, -(-widest[head] // ALIGN) * ALIGN) for head in order]
    # best[n]: cost of the n narrowest heads and where their last group starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        head_cost = 4 * pairs * (padded[end - 1] + SOFTMAX_CHANNELS)
        best.append(min((best[start][0] + CALL_FLOPS + (end - start) * head_cost, start) for start in range(end)))
    groups: list[HeadGroup] = []
    end = len(order)
    while end:
        start = best[end][1]
        groups.insert(0, HeadGroup(tuple(sorted(order[start:end])), padded[end - 1]))
        end = start
    return tuple(groups)


class Call(NamedTuple):
    """One call of the attention function: its heads, and how wide they are in it."""

    heads: tuple[int, ...]
    qk: int
    vo: int


class PrunedAttention(nn.Module):
    """What all pruned attentions share. Mixed into a stock attention, whose other parts and settings stay as they are.

    `names` are the attributes of q, k, v and, where the module applies it itself, o.
    """

    made_of: tuple[str, type[Any]]
    names: dict[str, str | None]
    qk_widths: list[int]
    vo_widths: list[int]
    heads: list[int]
    fused_calls: list[Call]
    eager_calls: list[Call]
    # What the stock module brings.
    config: Any = None
    layer_idx: Any
    num_heads: int
    attention_head_size: int
    compute_bias: Any
    gru_rel_pos_linear: Any
    gru_rel_pos_const: Any
    relative_position_bias_table: Any
    relative_position_index: Any

    def __reduce__(self) -> tuple[Any, ...]:
        # The class has no name that could be imported: it is made anew.
        return _empty, self.made_of, self.__dict__

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
        self.fused_calls = [Call(heads, width, width) for heads, width in head_groups(qk, vo, entry["pairs"])]
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
        return projected

    def dropout_now(self) -> float:
        """The rate of dropout on attention weights. Stock modules keep it under two names, as a number or a module."""
        if not self.training:
            return 0.0
        rate: Any = getattr(self, "attention_dropout", None)
        if rate is None:
            rate = self.dropout
        return float(getattr(rate, "p", rate))

    def softmax_scale(self) -> float:
        """Of the original model: cutting channels must not change the temperature of the softmax."""
        scale: Any = getattr(self, "scaling", None)
        if scale is None:
            size: Any = self.attention_head_size
            scale = size**-0.5
        return float(scale)

    def in_calls(
        self, states_BTD: torch.Tensor, source_BSD: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `states` to `source` through transformers' attention function, heads together as `head_groups` has them.

        Returns its output, (B, T, D), and where attention is eager the weights, (B, H, T, S).
        """
        implementation = self.config._attn_implementation  # once: a configuration of transformers is slow to read
        eager = implementation == "eager"
        calls = self.eager_calls if eager else self.fused_calls
        if not calls:
            batch, tokens, _ = states_BTD.shape
            # An empty entry, so that `outputs.attentions` has one for every layer.
            nothing = states_BTD.new_zeros(batch, 0, tokens, source_BSD.shape[1]) if eager else None
            return self.project("o", states_BTD.new_zeros(batch, tokens, 0)), nothing
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        dropout, scaling = self.dropout_now(), self.softmax_scale()
        query_BTC = self.project("q", states_BTD)
        key_BSC, value_BSC = (self.project(side, source_BSD) for side in "kv")
        contexts, weights = [], []
        for heads, qk, vo in calls:
            context_BTHK, weights_BHTS = attend(
                self,
                split_heads(query_BTC, self.qk_widths, heads, qk),
                split_heads(key_BSC, self.qk_widths, heads, qk),
                split_heads(value_BSC, self.vo_widths, heads, vo),
                attention_mask,
                dropout=dropout,
                scaling=scaling,
                **kwargs,
            )
            contexts.append(context_BTHK)
            weights.append(weights_BHTS)
        attended = in_order(weights, calls) if eager else None
        return self.project("o", join_heads(contexts, self.vo_widths, calls)), attended

    def with_bias(
        self, states_BTD: torch.Tensor, bias_BHTT: torch.Tensor, *, weigh: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `states` to themselves, with `bias` added to the scores.

        Returns its output as `project` takes it, (B, T, C), and where it is to `weigh` the weights, (B, H, T, T).
        """
        query_BTC, key_BTC, value_BTC = (self.project(side, states_BTD) for side in "qkv")
        calls = self.eager_calls if weigh else self.fused_calls
        contexts, weights = [], []
        for heads, qk, vo in calls:
            parts = (
                split_heads(query_BTC, self.qk_widths, heads, qk),
                split_heads(key_BTC, self.qk_widths, heads, qk),
                split_heads(value_BTC, self.vo_widths, heads, vo),
            )
            own_BHTT = bias_BHTT if len(heads) == len(self.heads) else take_heads(bias_BHTT, heads, 1)
            scale, dropout = self.softmax_scale(), self.dropout_now()
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
        everyone = tuple(range(len(self.heads)))
        width = max([NARROWEST, *self.qk_widths, *self.vo_widths])
        width = -(-width // ALIGN) * ALIGN
        if known:
            layer = past_key_values.layers[self.layer_idx]
            key_BHSK, value_BHSK = layer.keys, layer.values
        else:
            key_BHSK = split_heads(self.project("k", source), self.qk_widths, everyone, width)
            value_BHSK = split_heads(self.project("v", source), self.vo_widths, everyone, width)
            if not everyone:
                # The cache tells how many tokens it has seen by what it holds; without heads it still has to hold something.
                key_BHSK = value_BHSK = source.new_zeros(len(source), 1, source.shape[1], 1)
            key_BHSK, value_BHSK = past_key_values.update(key_BHSK, value_BHSK, self.layer_idx)
        if not everyone:
            return self.in_calls(hidden_states, key_BHSK[:, 0], attention_mask)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        context_BTHK, weights = attend(
            self,
            split_heads(self.project("q", hidden_states), self.qk_widths, everyone, width),
            key_BHSK,
            value_BHSK,
            attention_mask,
            dropout=self.dropout_now(),
            scaling=self.softmax_scale(),
            **kwargs,
        )
        joined_BTC = join_heads([context_BTHK], self.vo_widths, [Call(everyone, width, width)])
        return self.project("o", joined_BTC), weights


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
            nothing = hidden_states.new_zeros(batch, 0, tokens, tokens) if weigh else None
            return self.project("o", hidden_states.new_zeros(batch, tokens, 0)), nothing, handed_on
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
            context, weights = (
                hidden_states.new_zeros(rows, tokens, 0),
                hidden_states.new_zeros(rows, 0, tokens, tokens),
            )
            return (context, weights) if output_attentions else (context,)
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias_1HTT = table.view(tokens, tokens, -1).permute(2, 0, 1)[None]
        if attention_mask is not None:
            windows = attention_mask.shape[0]
            bias_1HTT = (bias_1HTT + attention_mask[:, None]).repeat(rows // windows, 1, 1, 1)
        context_BTC, weights_BHTT = self.with_bias(hidden_states, bias_1HTT, weigh=bool(output_attentions))
        context_BTC = self.project("o", context_BTC)
        return (context_BTC,) if weights_BHTT is None else (context_BTC, weights_BHTT)


def eager_attention(
    module: PrunedAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention written out, (B, H, T, K) each; returns (B, T, H, K) and the weights (B, H, T, T)."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.dropout(functional.softmax(scores, dim=-1), p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def split_heads(states_BTC: torch.Tensor, widths: list[int], heads: tuple[int, ...], padded: int) -> torch.Tensor:
    """(B, T, C) -> (B, H, T, K), K = padded: some of the heads, with zeros where a head is narrower.

    Zeros change neither the dot products nor the values that are kept.
    """
    if not heads:
        batch, tokens, _ = states_BTC.shape
        return states_BTC.new_zeros(batch, 0, tokens, padded)
    first, width = heads[0], widths[heads[0]]
    if heads == tuple(range(first, first + len(heads))) and len(set(widths[first : first + len(heads)])) == 1:
        if len(heads) < len(widths):
            start = sum(widths[:first])
            states_BTC = states_BTC[..., start : start + width * len(heads)]
        states_BTHK = states_BTC.view(*states_BTC.shape[:-1], len(heads), width)
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


def join_heads(contexts_BTHK: list[torch.Tensor], widths: list[int], calls: Sequence[Call]) -> torch.Tensor:
    """Each call's (B, T, H, K) -> (B, T, C): the heads in their order again, without the padding."""
    if len(calls) == 1 and len(set(widths)) == 1:
        context_BTHK = contexts_BTHK[0]
        return (context_BTHK if context_BTHK.shape[-1] == widths[0] else context_BTHK[..., : widths[0]]).flatten(-2)
    own = {
        head: context_BTHK[:, :, place, : widths[head]]
        for context_BTHK, call in zip(contexts_BTHK, calls, strict=True)
        for place, head in enumerate(call.heads)
    }
    return torch.cat([own[head] for head in range(len(widths))], dim=-1)


def in_order(weights_BHTS: list[torch.Tensor], calls: Sequence[Call]) -> torch.Tensor:
    """Each call's weights of its heads -> those of all heads, in their order, (B, H, T, S)."""
    if len(calls) == 1:
        return weights_BHTS[0]
    order = [head for call in calls for head in call.heads]
    return take_heads(torch.cat(weights_BHTS, dim=1), [order.index(head) for head in range(len(order))], 1)


def take_heads(states: torch.Tensor, heads: Sequence[int], dim: int) -> torch.Tensor:
    """These heads, one at least, along `dim`. Not by a list as index: a GPU is sent that at every call, while the host waits."""
    if list(heads) == list(range(heads[0], heads[0] + len(heads))):
        return states.narrow(dim, heads[0], len(heads))
    return torch.stack([states.select(dim, head) for head in heads], dim)


KINDS: dict[str, type[PrunedAttention]] = {
    "self": PrunedSelfAttention,
    "cached": PrunedCachedAttention,
    "gated_positions": PrunedGatedAttention,
    "windowed": PrunedWindowAttention,
}


def narrow(model: nn.Module, attention: Sequence[dict[str, Any]], feed_forward: Sequence[dict[str, Any]]) -> None:
    """Give a stock model the widths of its configuration, in place; weights that change shape become new ones, to be loaded.

    Each attention stays the module it was, with its other parts; its class becomes one that is both a pruned attention and the
    stock one. Paths are those of the class that was pruned: `model` may as well be its encoder alone, or that under another head.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a layer without heads
        for entry in placed(model, attention, ("module", *"qkvo")):
            module: Any = model.get_submodule(entry["module"])
            narrow_attention(module, entry)
            if module.config is None:
                module.config = model.config
            for side, widths in (("q", entry["qk"]), ("k", entry["qk"]), ("v", entry["vo"]), ("o", entry["vo"])):
                _resize(model, entry[side], sum(widths), rows=side != "o")
        for entry in placed(model, feed_forward, ("first", "second")):
            _resize(model, entry["first"], entry["neurons"], rows=True)
            _resize(model, entry["second"], entry["neurons"], rows=False)


def placed(model: nn.Module, entries: Sequence[dict[str, Any]], paths: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Entries with their paths as they are in `model`, without those of parts that it does not have (an encoder's decoder)."""
    prefix = f"{model.base_model_prefix}."
    for entry in entries:
        for place in (str, lambda path: path.removeprefix(prefix), lambda path: prefix + path):
            own = {**entry, **{path: place(entry[path]) for path in paths}}
            if has(model, own[paths[0]]):
                yield own
                break


def has(model: nn.Module, path: str) -> bool:
    """Whether there is a module at a path."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


@cache
def pruned_class(kind: str, stock: Any) -> Any:
    """A class that is both the pruned attention of a kind and a stock one."""
    return type(f"Pruned{stock.__name__}", (KINDS[kind], stock), {"__module__": __name__, "made_of": (kind, stock)})


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


def _resize(model: nn.Module, path: str, channels: int, *, rows: bool) -> None:
    stock = model.get_submodule(path)
    if not isinstance(stock, nn.Linear):
        raise ValueError(f"{path} is a {type(stock).__name__}, not a Linear")
    inputs, outputs = (stock.in_features, channels) if rows else (channels, stock.out_features)
    if (inputs, outputs) != (stock.in_features, stock.out_features):
        kept = {"device": stock.weight.device, "dtype": stock.weight.dtype}
        # Tools that quantize linear maps have no range for one without channels, and leave this class of torch's alone.
        made = nn.Linear if channels else NonDynamicallyQuantizableLinear
        model.set_submodule(path, made(inputs, outputs, bias=stock.bias is not None, **kept))
