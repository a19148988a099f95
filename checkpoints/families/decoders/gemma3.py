"""Gemma 3 (Gemma Team, arXiv 2503.19786) without images, as transformers implements it: norms of q and k."""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.config_rules import AnyOf, ListOf, Null, ObjectOf, OneOf
from checkpoints.families.base import Config, Family, UnusableConfigError
from checkpoints.families.config_fields import ACTIVATION, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.gemma import GEMMA_REFUSED
from checkpoints.families.decoders.gemma2 import CAP, windows
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    ROPE,
    THETA,
    WHOLE,
    WINDOW,
    Biases,
    GroupedSizes,
    check_positions,
    layout_from,
    sizes_of,
    tensors_from,
)
from checkpoints.families.encoder import MAX_LAYERS, head_width
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
    sizes = sizes_of(config, Biases(attention, attention))
    types = windows(config, sizes.layers, config.get("sliding_window_pattern") or 6)
    return replace(sizes, types=types, normed=True, norms_after=True)


GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3_text",),
    modality=Modality.TEXT,
    architectures={"Gemma3ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
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
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
