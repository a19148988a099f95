"""Gemma 3 (Gemma Team, arXiv 2503.19786) without images, as transformers implements it: norms of q and k."""

from api_schemas.enums import Modality
from checkpoints.config_rules import AnyOf, ListOf, Null, ObjectOf, OneOf
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import ACTIVATION, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.gemma import GEMMA_REFUSED
from checkpoints.families.decoders.gemma2 import CAP, NORMS_AROUND, windows
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    ROPE,
    THETA,
    Biases,
    GroupedSizes,
    check_positions,
    grouped_layout,
    grouped_tensors,
    sizes_of,
)
from checkpoints.families.decoders.qwen2 import WHOLE, WINDOW
from checkpoints.families.encoder import MAX_LAYERS, head_width
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.files.preprocessor_files import VOCABULARIES

_POSITIONS = ObjectOf({WHOLE: ROPE, WINDOW: ROPE})
"""By type of layer."""


def _sizes(config: Config) -> GroupedSizes:
    config = GEMMA3.filled(config)
    # The class refuses others, though its heads have a width of their own.
    head_width(config["hidden_size"], config["num_attention_heads"], "num_attention_heads")
    by_type = config.get("rope_parameters") or {}
    for said in by_type.values():
        check_positions("rope_parameters", said)
    if config.get("rope_scaling") and config.get("rope_parameters") is not None and WHOLE not in by_type:
        raise UnusableConfigError("rope_scaling", f"it is of the type {WHOLE}, which rope_parameters does not have")
    attention = config["attention_bias"]
    return sizes_of(config, Biases(attention, attention))


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    sizes = _sizes(config)
    types = windows(config, sizes.layers, config.get("sliding_window_pattern") or 6)
    return grouped_layout(sizes, types, norms_after=True, qk_norms=True)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    sizes = _sizes(config)
    shapes = grouped_tensors(sizes, GEMMA3.filled(config), architecture, NORMS_AROUND)
    norms = (f"{PREFIX}layers.{layer}.self_attn.{side}_norm.weight" for layer in range(sizes.layers) for side in "qk")
    return {**shapes, **dict.fromkeys(norms, (sizes.head_dim,))}


GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3_text",),
    modality=Modality.TEXT,
    architectures={"Gemma3ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=_layout,
    defaults={
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    config_fields={
        **FIELDS,
        "rope_parameters": AnyOf(_POSITIONS, Null()),
        "rope_local_base_freq": THETA,
        "hidden_activation": ACTIVATION,
        "query_pre_attn_scalar": SIZE,
        **dict.fromkeys(("sliding_window", "sliding_window_pattern", "_sliding_window_pattern"), SIZE),
        "layer_types": ListOf(OneOf((WHOLE, WINDOW)), MAX_LAYERS),
        "final_logit_softcapping": CAP,
    },
    refused={
        **GEMMA_REFUSED,
        "attn_logit_softcapping": (None, "the class of transformers has no cap of attention scores; leave this out"),
    },
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=_other_tensors,
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
