"""OPT (Zhang et al., arXiv 2205.01068), as transformers implements it."""

from api_schemas.enums import Modality
from checkpoints.families.base import Architecture, AttentionKind, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import OPT as CONFIG_KEYS
from checkpoints.families.decoders.causal import (
    CAUSAL_FILES,
    WHILE_ENGAGED,
    block_tokens,
    causal_class,
    causal_padding,
)
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.tensor_shapes import Shapes, norm
from checkpoints.families.text.text_encoder import untied
from checkpoints.files.preprocessor_files import VOCABULARIES

BEFORE = 2
"""Positions are counted from this one on."""


def _names(prefix: str, *, norms_first: bool) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}layers.{{layer}}",
        attention="self_attn",
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.out_proj",
        first="fc1",
        second="fc2",
        attention_stream="self_attn_layer_norm" if norms_first else "self_attn",
        feed_forward_stream="final_layer_norm" if norms_first else "fc1",
    )


def _words(config: Config) -> int:
    """How wide word embeddings are, which opt-350m maps to the hidden size and back."""
    width: int = config.get("word_embed_proj_dim") or OPT.value(config, "hidden_size")
    return width


def _layout(config: Config, architecture: Architecture) -> Layout:
    padding, vocabulary = config.get("pad_token_id", 1), OPT.value(config, "vocab_size")
    if padding is not None and not 0 <= padding < vocabulary:
        raise UnusableConfigError("pad_token_id", "must be null or a whole number from 0 to vocab_size - 1")
    hidden, heads = OPT.value(config, "hidden_size"), OPT.value(config, "num_attention_heads")
    biases = OPT.value(config, "enable_bias")
    sizes = EncoderSizes(
        layers=OPT.value(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=OPT.value(config, "ffn_dim"),
        tokens=block_tokens(OPT.value(config, "max_position_embeddings"), "max_position_embeddings"),
        qkv_bias=biases,
        other_bias=biases,
    )
    width = _words(config)
    maps = 0 if width == hidden else 2 * hidden
    names = _names(architecture.prefix, norms_first=OPT.value(config, "do_layer_norm_before"))
    return encoder(sizes, names, 2 * sizes.tokens * width * (vocabulary + maps), AttentionKind.CACHED)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    hidden, width, prefix = OPT.value(config, "hidden_size"), _words(config), architecture.prefix
    shapes: Shapes = {
        f"{prefix}embed_tokens.weight": (OPT.value(config, "vocab_size"), width),
        f"{prefix}embed_positions.weight": (OPT.value(config, "max_position_embeddings") + BEFORE, hidden),
    }
    if width != hidden:
        shapes |= {f"{prefix}project_in.weight": (hidden, width), f"{prefix}project_out.weight": (width, hidden)}
    norms = [
        f"layers.{layer}.{name}"
        for layer in range(OPT.value(config, "num_hidden_layers"))
        for name in ("self_attn_layer_norm", "final_layer_norm")
    ]
    if OPT.value(config, "do_layer_norm_before") and not config.get("_remove_final_layer_norm"):
        norms.append("final_layer_norm")
    if OPT.value(config, "layer_norm_elementwise_affine"):
        for name in norms:
            shapes |= norm(f"{prefix}{name}", hidden)
    return shapes | untied(config, architecture, shapes)


OPT = Family(
    name="opt",
    model_types=("opt",),
    modality=Modality.TEXT,
    architectures={"OPTForCausalLM": causal_class("model.decoder.", "embed_tokens")},
    layout=_layout,
    defaults={
        "vocab_size": 50272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "ffn_dim": 3072,
        "max_position_embeddings": 2048,
        "num_attention_heads": 12,
        "do_layer_norm_before": True,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
    },
    config_fields=CONFIG_KEYS,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=_other_tensors,
    # The first files of OPT are of the model without its head.
    saved_names=((), ((r"^model\.decoder\.", "decoder."),)),
    neurons_key="ffn_dim",
    padding=causal_padding,
    # As for Whisper: the whole model.
    while_engaged={**WHILE_ENGAGED, "layerdrop": 0.0},
)
