"""What conformers share (Gulati et al., arXiv 2005.08100): layers of a feed-forward block, attention, convolutions, and a second
feed-forward block. Of both blocks half of what comes out is added to the stream."""

from collections.abc import Mapping
from dataclasses import replace

from api_schemas.enums import Head
from checkpoints.config_rules import Integer, OneOf, Rule
from checkpoints.families.audio.waveform_tensors import Value
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    Layout,
    UnusableConfigError,
)
from checkpoints.families.config_fields import RATE, SIZE, WAVEFORM
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, feed_forward, head_width
from checkpoints.families.tensor_shapes import Shapes, norm

FIELDS: Mapping[str, Rule] = {
    **WAVEFORM,
    # None of the class's own: `check_vocabulary`.
    "vocab_size": SIZE,
    "position_embeddings_type": OneOf(("relative", "rotary"), null=True),
    "rotary_embedding_base": Integer(1, 2**24),
    # The class makes a table of twice as many sines of the hidden size.
    "max_source_positions": Integer(1, 2**14),
    "conformer_conv_dropout": RATE,
}
"""Of config.json."""


def _names(prefix: str, block: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}encoder.layers.{{layer}}",
        attention="self_attn",
        q="self_attn.linear_q",
        k="self_attn.linear_k",
        v="self_attn.linear_v",
        o="self_attn.linear_out",
        first=f"{block}.intermediate_dense",
        second=f"{block}.output_dense",
        attention_stream="self_attn_layer_norm",
        feed_forward_stream=block,
    )


def check_vocabulary(config: Config, architecture: Architecture) -> None:
    """The classes have no size of their own for it, as others have. Raises UnusableConfigError."""
    if architecture.head is Head.CTC and config.get("vocab_size") is None:
        raise UnusableConfigError("vocab_size", "must say how many tokens the tokenizer has")


def positions_of(config: Config, default: str) -> str | None:
    """`position_embeddings_type`, where null is none and not the class's `default`."""
    said: str | None = config.get("position_embeddings_type", default)
    return said


def conformer_layout(
    config: Config, family: Family, prefix: str, positions: str | None, tokens: int, other_flops: int
) -> Layout:
    """The blocks. `other_flops`: of everything but the layers. Raises UnusableConfigError."""
    hidden, heads = family.value(config, "hidden_size"), family.value(config, "num_attention_heads")
    kernel = family.value(config, "conv_depthwise_kernel_size")
    if kernel % 2 == 0:
        raise UnusableConfigError("conv_depthwise_kernel_size", "must be odd, so that as many tokens come out as go in")
    sizes = EncoderSizes(
        layers=family.value(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=family.value(config, "intermediate_size"),
        tokens=tokens,
    )
    if positions == "rotary" and sizes.head_dim % 2:
        reason = f"heads are {sizes.head_dim} wide, but rotary positions require an even width"
        raise UnusableConfigError("num_attention_heads", reason)
    if positions == "relative" and hidden % 2:
        reason = f"it is {hidden}, but relative positions are pairs of a sine and a cosine and require an even number"
        raise UnusableConfigError("hidden_size", reason)
    # A map to twice the width, of which one half gates the other; one channel by itself along time; and a map back.
    convolved = sizes.layers * 2 * tokens * hidden * (3 * hidden + kernel)
    layout = encoder(sizes, _names(prefix, "ffn2"), other_flops + convolved)
    before, behind = (
        [
            # Half of the output is added to the stream, so that the stream is not what it is fitted to.
            replace(
                feed_forward(sizes, _names(prefix, block), layer, layer), stream=None, before_attention=block == "ffn1"
            )
            for layer in range(sizes.layers)
        ]
        for block in ("ffn1", "ffn2")
    )
    return replace(
        layout,
        attention=tuple(_with_positions(site, positions) for site in layout.attention),
        feed_forward=tuple(block for pair in zip(before, behind, strict=True) for block in pair),
    )


def _with_positions(site: AttentionSite, positions: str | None) -> AttentionSite:
    """An attention without positions made into one with these."""
    if positions == "rotary":
        return replace(site, kind=AttentionKind.ROTATED_INPUT)
    if positions is None:
        return site
    shape = site.shape
    distances = 2 * shape.queries - 1
    # Of every query with every relative position, of which half are used.
    flops = 2 * shape.queries * distances * shape.head_dim
    whole = shape.model_copy(update={"qk_whole": True, "head_flops": flops})
    relative = replace(site, kind=AttentionKind.RELATIVE_POSITIONS, shape=whole)
    if positions == "relative_key":
        return relative
    parameters = shape.head_dim * (shape.hidden + 2)
    mapped = flops + 2 * distances * shape.hidden * shape.head_dim
    return replace(
        relative,
        positions=f"{site.module}.linear_pos",
        per_head={"pos_bias_u": 0, "pos_bias_v": 0},
        shape=whole.model_copy(update={"head_parameters": parameters, "head_flops": mapped}),
    )


def conformer_tensors(value: Value, prefix: str, positions: str | None, *, norm_of_convolutions: str) -> Shapes:
    """Everything of the layers but their blocks. `norm_of_convolutions`: the name of the norm behind the one along time."""
    hidden, heads, kernel = value("hidden_size"), value("num_attention_heads"), value("conv_depthwise_kernel_size")
    shapes: Shapes = {}
    for layer in range(value("num_hidden_layers")):
        at = f"{prefix}encoder.layers.{layer}"
        for name in (
            "ffn1_layer_norm",
            "self_attn_layer_norm",
            "ffn2_layer_norm",
            "final_layer_norm",
            "conv_module.layer_norm",
        ):
            shapes |= norm(f"{at}.{name}", hidden)
        shapes |= norm(f"{at}.conv_module.{norm_of_convolutions}", hidden)
        shapes |= {
            f"{at}.conv_module.pointwise_conv1.weight": (2 * hidden, hidden, 1),
            f"{at}.conv_module.depthwise_conv.weight": (hidden, 1, kernel),
            f"{at}.conv_module.pointwise_conv2.weight": (hidden, hidden, 1),
        }
        if positions == "relative":
            shapes |= {f"{at}.self_attn.pos_bias_{each}": (heads, hidden // heads) for each in "uv"}
    return shapes
