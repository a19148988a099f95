"""Gemma (Gemma Team, arXiv 2403.08295), as transformers implements it: its own head width, GELU gates, tied embeddings."""

from api_schemas.enums import Modality
from checkpoints.config_rules import OneOf
from checkpoints.families.base import Config, Family
from checkpoints.families.config_fields import ACTIVATIONS
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    REFUSED,
    Biases,
    GroupedSizes,
    layout_from,
    sizes_of,
    tensors_from,
)
from checkpoints.files.preprocessor_files import VOCABULARIES

GEMMA_REFUSED = {
    **REFUSED,
    "use_bidirectional_attention": (False, "only texts that are read from left to right are supported; leave this out"),
}


def _sizes(config: Config) -> GroupedSizes:
    config = GEMMA.filled(config)
    attention = config["attention_bias"]
    return sizes_of(config, Biases(attention, attention))


GEMMA = Family(
    name="gemma",
    model_types=("gemma",),
    modality=Modality.TEXT,
    architectures={"GemmaForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    config_fields={
        **FIELDS,
        # Published files have it beside `hidden_act`, which is what the class reads.
        "hidden_activation": OneOf(ACTIVATIONS, null=True),
    },
    refused=GEMMA_REFUSED,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
