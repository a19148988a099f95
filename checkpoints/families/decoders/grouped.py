"""What decoders with rotary positions and grouped queries share: Llama's module tree, which others copied name by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checkpoints.config_rules import AnyOf, Boolean, Integer, ListOf, Null, Number, ObjectOf, OneOf, Rule
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    FeedForwardSite,
    Layout,
    UnusableConfigError,
)
from checkpoints.families.config_fields import COUNT, FLAG, RATE, SIZE
from checkpoints.families.decoders.causal import block_tokens
from checkpoints.families.encoder import MAX_HEADS, MAX_LAYERS, head_width
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape

PREFIX = "model."
GROUPS = ("num_attention_heads", "num_key_value_heads", "head_dim")
"""Config keys of how many heads of queries there are, how many of keys and values, and of their width."""

MOST_CHANNELS = 2**16
"""Of the queries of a layer: four times those of the largest models that there are."""
THETA = Number(1.0, 1e12)
_FACTOR = Number(1e-3, 1e6)
_POSITIONS: Mapping[str, Rule] = {
    **dict.fromkeys(("rope_type", "type"), OneOf(("default", "linear", "dynamic", "llama3", "yarn"))),
    "rope_theta": THETA,
    **dict.fromkeys(("low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"), _FACTOR),
    **dict.fromkeys(("factor", "mscale", "mscale_all_dim"), _FACTOR),
    "original_max_position_embeddings": SIZE,
    "truncate": Boolean(),
}
ROPE = ObjectOf(_POSITIONS)
PARTIAL_ROPE = ObjectOf({**_POSITIONS, "partial_rotary_factor": RATE})
LONGROPE = ObjectOf(
    {
        **dict.fromkeys(("rope_type", "type"), OneOf(("default", "longrope", "su", "yarn"))),
        "rope_theta": THETA,
        "partial_rotary_factor": RATE,
        **dict.fromkeys(("short_factor", "long_factor"), ListOf(_FACTOR, 512)),
        **dict.fromkeys(("factor", "attention_factor", "short_mscale", "long_mscale"), _FACTOR),
        "original_max_position_embeddings": SIZE,
    }
)
"""What Phi-3's configs say of positions, whose other kinds than the default are told apart where they are refused."""
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
WHOLE, WINDOW = "full_attention", "sliding_attention"
"""transformers' names of layers whose tokens see all before them, and of those that see a window."""
WINDOW_FIELDS: Mapping[str, Rule] = {
    "use_sliding_window": FLAG,
    "sliding_window": SIZE,
    "max_window_layers": COUNT,
    "layer_types": ListOf(OneOf((WHOLE, WINDOW)), MAX_LAYERS),
}
"""Where some layers see a window: what `window_types` reads."""
NORMS = ("input_layernorm", "post_attention_layernorm")
"""Of each layer."""
REFUSED: Mapping[str, tuple[Any, str]] = {
    "partial_rotary_factor": (1.0, "rotary positions must cover the whole head; leave this out"),
}
FOLLOWS: Mapping[str, tuple[Any, str]] = {
    "head_dim": (None, "the head width follows from hidden_size and num_attention_heads; leave this out"),
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
    rotary: int
    """Channels of a head, its first ones, that positions rotate."""
    neurons: int
    words: int
    tokens: int
    tied: bool
    """The head's weight is the word embeddings'."""
    biases: Biases = field(default_factory=Biases)
    types: tuple[str, ...] = ()
    """Of each layer, where they are called with different masks."""
    normed: bool = False
    """Queries and keys go through a norm over the channels of their head (`q_norm`, `k_norm`) before they are rotated."""
    norms_after: bool = False
    """What a block puts out is normed before it is added to the stream, so that no map writes to the stream."""


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
        rotary=head_dim,
        neurons=config["intermediate_size"],
        words=config["vocab_size"],
        tokens=block_tokens(config["max_position_embeddings"], "max_position_embeddings"),
        tied=config["tie_word_embeddings"],
        biases=biases,
    )


def rotated_channels(config: Config, head_dim: int, share: float) -> int:
    """How many channels of a head positions rotate, as the class reads it: `share` of them where the config does not say.

    Raises UnusableConfigError where these are no pairs.
    """
    said = config.get("rope_scaling") or config.get("rope_parameters") or {}
    own: Any = said.get("partial_rotary_factor", config.get("partial_rotary_factor", share))
    rotated = int(head_dim * own)
    if rotated < 2 or rotated % 2:
        raise UnusableConfigError(
            "partial_rotary_factor",
            f"{own} of a head {head_dim} wide is {rotated} channels, but rotary positions require an even number from 2 on",
        )
    return rotated


def window_types(config: Config, layers: int) -> tuple[str, ...]:
    """Of each layer, as Qwen's classes read them: by name, or a window from `max_window_layers` on."""
    said, window = config.get("layer_types"), config.get("sliding_window", 4096)
    windowed = bool(config.get("use_sliding_window")) and window is not None
    if said is None:
        first = config.get("max_window_layers", 28) if windowed else layers
        return tuple(WINDOW if layer >= first else WHOLE for layer in range(layers))
    if len(said) != layers:
        raise UnusableConfigError("layer_types", f"must have as many entries as num_hidden_layers, {layers}")
    if WINDOW in said and not windowed:
        raise UnusableConfigError("layer_types", f"{WINDOW} requires use_sliding_window and a sliding_window")
    return tuple(said)


def check_positions(name: str, said: Mapping[str, Any]) -> None:
    """Those that transformers could not compute."""
    kind = said.get("rope_type", said.get("type", "default"))
    missing = [key for key in _NEEDED.get(kind, ()) if key not in said]
    if missing:
        raise UnusableConfigError(name, f"rope_type {kind} requires {' and '.join(missing)}")
    if kind == "llama3" and said["low_freq_factor"] >= said["high_freq_factor"]:
        raise UnusableConfigError(name, "low_freq_factor must be less than high_freq_factor")


def layout_from(sizes: Callable[[Config], GroupedSizes]) -> Callable[[Config, Architecture], Layout]:
    """`Family.layout` of the family whose configs `sizes` reads."""
    return lambda config, _architecture: grouped_layout(sizes(config))


def tensors_from(sizes: Callable[[Config], GroupedSizes]) -> Callable[[Config, Architecture, int], Shapes]:
    """Likewise `Family.other_tensors`."""
    return lambda config, architecture, _labels: _tensors(sizes(config), architecture)


def grouped_layout(sizes: GroupedSizes) -> Layout:
    """The blocks, in Llama's names."""
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
                stream=None if sizes.norms_after else f"{at}.input_layernorm",
                kind=AttentionKind.NORMED_ROTARY_CACHED if sizes.normed else AttentionKind.ROTARY_CACHED,
                norms={side: f"{at}.self_attn.{side}_norm" for side in "qk"} if sizes.normed else {},
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
                    rotary=sizes.rotary,
                    qk_whole=sizes.normed,
                ),
            )
        )
        feed_forward.append(
            FeedForwardSite(
                first=f"{at}.mlp.gate_proj",
                up=f"{at}.mlp.up_proj",
                second=f"{at}.mlp.down_proj",
                stream=None if sizes.norms_after else f"{at}.post_attention_layernorm",
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
    types = (sizes.types,) if sizes.types else ()
    return Layout(tuple(attention), tuple(feed_forward), (tuple(layers),), words, types=types)


def _tensors(sizes: GroupedSizes, architecture: Architecture) -> Shapes:
    """Embeddings and norms."""
    names = (*NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm") if sizes.norms_after else NORMS
    norms = [f"layers.{layer}.{name}" for layer in range(sizes.layers) for name in names]
    shapes: Shapes = {f"{PREFIX}embed_tokens.weight": (sizes.words, sizes.hidden)}
    shapes |= {f"{PREFIX}{name}.weight": (sizes.hidden,) for name in (*norms, "norm")}
    if sizes.normed:
        of_heads = [f"layers.{layer}.self_attn.{side}_norm" for layer in range(sizes.layers) for side in "qk"]
        shapes |= {f"{PREFIX}{name}.weight": (sizes.head_dim,) for name in of_heads}
    return shapes if sizes.tied else shapes | {name: shapes[source] for name, source in architecture.tied.items()}
