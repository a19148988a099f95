"""Qwen3 (Yang et al., arXiv 2505.09388), the dense models, as transformers implements it: a Qwen2 with norms on queries and keys.

Each query and key is divided by its root mean square over the channels of its head before it is rotated. So removing a QK channel
changes the divisor of all others of its head, by one factor in q and another in k. No criterion here measures that cost, because
each treats the two sides of a QK channel as one gate. So QK channels are removed only with their head, whose norms are its own.
Whole heads, VO channels and neurons are cut exactly (docs/adr/0062-norms-of-queries-and-keys.md).
"""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.families.base import Config, Family
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    REFUSED,
    WINDOW_FIELDS,
    Biases,
    GroupedSizes,
    layout_from,
    sizes_of,
    tensors_from,
    window_types,
)
from checkpoints.files.preprocessor_files import VOCABULARIES


def _sizes(config: Config) -> GroupedSizes:
    biased = QWEN3.value(config, "attention_bias")
    sizes = sizes_of(QWEN3.filled(config), Biases(qkv=biased, o=biased))
    return replace(sizes, types=window_types(config, sizes.layers), normed=True)


QWEN3 = Family(
    name="qwen3",
    model_types=("qwen3",),
    modality=Modality.TEXT,
    architectures={"Qwen3ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "attention_bias": False,
        "tie_word_embeddings": False,
    },
    config_fields={**FIELDS, **WINDOW_FIELDS},
    refused=REFUSED,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
