"""What decoders with rotary positions and grouped queries share: Llama's module tree, which others took over name by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from checkpoints.config_rules import AnyOf, Boolean, Integer, Null, Number, ObjectOf, OneOf, Rule
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    FeedForwardSite,
    Layout,
    UnusableConfigError,
)
from checkpoints.families.config_fields import RATE, SIZE
from checkpoints.families.decoders.causal import block_tokens
from checkpoints.families.encoder import MAX_HEADS, MAX_LAYERS, head_width
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.families.text.text_encoder import untied
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape

PREFIX = "model."
GROUPS = ("num_attention_heads", "num_key_value_heads", "head_dim")
"""Config keys of how many heads of queries there are, how many of keys and values, and of their width."""

MOST_CHANNELS = 2**16
"""Of the queries of a layer: four times those of the largest models that there are."""
THETA = Number(1.0, 1e12)
_FACTOR = Number(1e-3, 1e6)
ROPE = ObjectOf(
    {
        **dict.fromkeys(("rope_type", "type"), OneOf(("default", "linear", "dynamic", "llama3", "yarn"))),
        "rope_theta": THETA,
        **dict.fromkeys(("low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"), _FACTOR),
        **dict.fromkeys(("factor", "mscale", "mscale_all_dim"), _FACTOR),
        "original_max_position_embeddings": SIZE,
        "truncate": Boolean(),
    }
)
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}
"""By kind of positions, what transformers asks for beside it and has no value of its own for."""
FIELDS: Mapping[str, Rule] = {
    **dict.fromkeys(("rope_parameters", "rope_scaling"), AnyOf(ROPE, Null())),
    "rope_theta": THETA,
    "original_max_position_embeddings": SIZE,
    "head_dim": SIZE,
    **dict.fromkeys(("attention_dropout", "rms_norm_eps"), RATE),
    "pretraining_tp": Integer(1, 1024),
}
"""Beside what formulas here read. The stock class computes cosines and sines of whole heads, of whatever kind they are, and
pruned attention takes those of the pairs that are left."""
REFUSED: Mapping[str, tuple[Any, str]] = {
    "partial_rotary_factor": (1.0, "rotary positions must cover the whole head; leave this out"),
}


@dataclass(frozen=True)
class Biases:
    """Which maps have one."""

    qkv: bool = False
    o: bool = False
    feed_forward: bool = False


@dataclass(frozen=True)
class GroupedSizes:
    """Numbers that a config says, each checked."""

    layers: int
    hidden: int
    heads: int
    """Of keys and values."""
    queries: int
    """Heads of queries for each of these."""
    head_dim: int
    neurons: int
    words: int
    tokens: int
    biases: Biases = field(default_factory=Biases)


def sizes_of(config: Config, biases: Biases) -> GroupedSizes:
    """Of a config that says everything but `head_dim`, and `num_key_value_heads` where each head of queries has its own.

    Raises UnusableConfigError.
    """
    hidden, all_queries = config["hidden_size"], config["num_attention_heads"]
    head_dim, key = config.get("head_dim"), "head_dim"
    if head_dim is None:
        head_dim, key = head_width(hidden, all_queries, "num_attention_heads"), "num_attention_heads"
    if head_dim % 2:
        raise UnusableConfigError(key, f"heads are {head_dim} wide, but rotary positions require an even width")
    if all_queries > MAX_HEADS:
        raise UnusableConfigError("num_attention_heads", f"at most {MAX_HEADS} heads are supported")
    if all_queries * head_dim > MOST_CHANNELS:
        raise UnusableConfigError(key, f"at most {MOST_CHANNELS} channels over all heads are supported")
    heads = config.get("num_key_value_heads") or all_queries
    if all_queries % heads:
        raise UnusableConfigError(
            "num_key_value_heads", f"{heads} key-value heads do not divide the {all_queries} query heads"
        )
    if config["num_hidden_layers"] > MAX_LAYERS:
        raise UnusableConfigError("num_hidden_layers", f"at most {MAX_LAYERS} layers are supported")
    padding = config.get("pad_token_id")
    if padding is not None and not -1 <= padding < config["vocab_size"]:
        raise UnusableConfigError("pad_token_id", f"it is not a token of a vocabulary of {config['vocab_size']}")
    for name in ("rope_parameters", "rope_scaling"):
        check_positions(name, config.get(name) or {})
    return GroupedSizes(
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        queries=all_queries // heads,
        head_dim=head_dim,
        neurons=config["intermediate_size"],
        words=config["vocab_size"],
        tokens=block_tokens(config["max_position_embeddings"], "max_position_embeddings"),
        biases=biases,
    )


def check_positions(name: str, said: Mapping[str, Any]) -> None:
    """Those that transformers could not compute."""
    kind = said.get("rope_type", said.get("type", "default"))
    missing = [key for key in _NEEDED.get(kind, ()) if key not in said]
    if missing:
        raise UnusableConfigError(name, f"rope_type {kind} requires {' and '.join(missing)}")
    if kind == "llama3" and said["low_freq_factor"] >= said["high_freq_factor"]:
        raise UnusableConfigError(name, "low_freq_factor must be less than high_freq_factor")


def grouped_layout(
    sizes: GroupedSizes, types: tuple[str, ...] = (), *, norms_after: bool = False, qk_norms: bool = False
) -> Layout:
    """The blocks. `types`: of each layer, where they are called with different masks. `norms_after`: what a block puts out is
    normed before it is added to the stream, so that no map writes to the stream. `qk_norms`: so is each head of q and k."""
    attention, feed_forward, layers = [], [], []
    for number in range(sizes.layers):
        at = f"{PREFIX}layers.{number}"
        layers.append(at)
        attention.append(
            AttentionSite(
                module=f"{at}.self_attn",
                q=f"{at}.self_attn.q_proj",
                k=f"{at}.self_attn.k_proj",
                v=f"{at}.self_attn.v_proj",
                o=f"{at}.self_attn.o_proj",
                stream=None if norms_after else f"{at}.input_layernorm",
                kind=AttentionKind.ROTARY_CACHED,
                shape=AttentionShape(
                    layer=number,
                    heads=sizes.heads,
                    head_dim=sizes.head_dim,
                    hidden=sizes.hidden,
                    source=sizes.hidden,
                    q_bias=sizes.biases.qkv,
                    k_bias=sizes.biases.qkv,
                    v_bias=sizes.biases.qkv,
                    o_bias=sizes.biases.o,
                    queries=sizes.tokens,
                    keys=sizes.tokens,
                    # Also where a layer sees a window: the others are masked, which spares torch's kernels nothing.
                    pairs=sizes.tokens**2,
                    queries_per_head=sizes.queries,
                    rotary=sizes.head_dim,
                    qk_whole=qk_norms,
                ),
            )
        )
        feed_forward.append(
            FeedForwardSite(
                first=f"{at}.mlp.gate_proj",
                up=f"{at}.mlp.up_proj",
                second=f"{at}.mlp.down_proj",
                stream=None if norms_after else f"{at}.post_attention_layernorm",
                shape=FeedForwardShape(
                    layer=number,
                    hidden=sizes.hidden,
                    neurons=sizes.neurons,
                    tokens=sizes.tokens,
                    first_bias=sizes.biases.feed_forward,
                    second_bias=sizes.biases.feed_forward,
                    gated=True,
                ),
            )
        )
    words = 2 * sizes.tokens * sizes.hidden * sizes.words
    return Layout(tuple(attention), tuple(feed_forward), (tuple(layers),), words, types=(types,) if types else ())


NORMS = ("input_layernorm", "post_attention_layernorm")


def grouped_tensors(
    sizes: GroupedSizes, config: Config, architecture: Architecture, of_layer: tuple[str, ...] = NORMS
) -> Shapes:
    """Embeddings and norms, `of_layer` those of one. `config`: with what the class says where a file says nothing."""
    norms = [f"layers.{layer}.{name}" for layer in range(sizes.layers) for name in of_layer]
    shapes: Shapes = {f"{PREFIX}embed_tokens.weight": (sizes.words, sizes.hidden)}
    shapes |= {f"{PREFIX}{name}.weight": (sizes.hidden,) for name in (*norms, "norm")}
    return shapes | untied(config, architecture, shapes)
