"""Encoders and decoders with identical layers: their blocks from a few numbers and name templates."""

from dataclasses import dataclass

from checkpoints.families.base import AttentionKind, AttentionSite, Config, FeedForwardSite, Layout, UnusableConfigError
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape

MAX_LAYERS = 1024
MAX_HEADS = 1024
"""Of one attention: widths are kept by head."""


@dataclass(frozen=True)
class EncoderNames:
    """Names in the module tree. `layer` has `{layer}` for its number; the others are relative to the layer."""

    layer: str
    attention: str
    """The module that computes attention."""
    q: str
    k: str
    v: str
    o: str
    first: str
    second: str
    attention_stream: str
    """The module whose input the attention's output is added to."""
    feed_forward_stream: str


@dataclass(frozen=True)
class EncoderSizes:
    """Numbers that all layers share, for one input of `tokens` tokens."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    neurons: int
    tokens: int
    qkv_bias: bool = True
    k_bias: bool = True
    """Only where qkv_bias holds."""
    other_bias: bool = True
    """Of the output projection, and of both maps of a feed-forward block."""
    layers_key: str = "num_hidden_layers"
    """What the configuration calls the number of layers."""


def head_width(hidden: int, heads: int, heads_key: str) -> int:
    """The width of a head. Raises UnusableConfigError where heads do not divide the hidden size, or are more than anybody has."""
    if heads > MAX_HEADS:
        raise UnusableConfigError(heads_key, f"at most {MAX_HEADS} heads are supported")
    if hidden % heads:
        raise UnusableConfigError(heads_key, f"{heads} heads do not divide the hidden size {hidden}")
    return hidden // heads


def label_count(config: Config) -> int:
    """How many labels config.json names, as transformers counts them."""
    return len(config.get("id2label") or {}) or config.get("num_labels") or 2


def self_attention(
    sizes: EncoderSizes, names: EncoderNames, layer: int, number: int, kind: AttentionKind = AttentionKind.SELF
) -> AttentionSite:
    """The attention of one layer: `layer` in its stack, `number` in the whole model."""
    at = names.layer.format(layer=layer)
    return AttentionSite(
        module=f"{at}.{names.attention}",
        q=f"{at}.{names.q}",
        k=f"{at}.{names.k}",
        v=f"{at}.{names.v}",
        o=f"{at}.{names.o}",
        stream=f"{at}.{names.attention_stream}",
        shape=AttentionShape(
            layer=number,
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            hidden=sizes.hidden,
            source=sizes.hidden,
            q_bias=sizes.qkv_bias,
            k_bias=sizes.qkv_bias and sizes.k_bias,
            v_bias=sizes.qkv_bias,
            o_bias=sizes.other_bias,
            queries=sizes.tokens,
            keys=sizes.tokens,
            pairs=sizes.tokens**2,
        ),
        kind=kind,
    )


def feed_forward(sizes: EncoderSizes, names: EncoderNames, layer: int, number: int) -> FeedForwardSite:
    """The feed-forward block of one layer."""
    at = names.layer.format(layer=layer)
    return FeedForwardSite(
        first=f"{at}.{names.first}",
        second=f"{at}.{names.second}",
        stream=f"{at}.{names.feed_forward_stream}",
        shape=FeedForwardShape(
            layer=number,
            hidden=sizes.hidden,
            neurons=sizes.neurons,
            tokens=sizes.tokens,
            first_bias=sizes.other_bias,
            second_bias=sizes.other_bias,
        ),
    )


def encoder(
    sizes: EncoderSizes, names: EncoderNames, other_flops: int, kind: AttentionKind = AttentionKind.SELF
) -> Layout:
    """One stack of equal layers. Raises UnusableConfigError where there are too many of them."""
    if sizes.layers > MAX_LAYERS:
        raise UnusableConfigError(sizes.layers_key, f"at most {MAX_LAYERS} layers are supported")
    if not 1 <= sizes.tokens <= 2**20:
        raise UnusableConfigError("", "it describes an input that yields no usable sequence")
    return Layout(
        attention=tuple(self_attention(sizes, names, layer, layer, kind) for layer in range(sizes.layers)),
        feed_forward=tuple(feed_forward(sizes, names, layer, layer) for layer in range(sizes.layers)),
        stacks=(tuple(names.layer.format(layer=layer) for layer in range(sizes.layers)),),
        other_flops=other_flops,
    )
