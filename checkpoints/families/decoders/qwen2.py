"""Qwen2 (Yang et al., arXiv 2407.10671), as transformers implements it, also Qwen2.5: only q, k and v have biases."""

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
    sizes = sizes_of(QWEN2.filled(config), Biases(qkv=True))
    return replace(sizes, types=window_types(config, sizes.layers))


QWEN2 = Family(
    name="qwen2",
    model_types=("qwen2",),
    modality=Modality.TEXT,
    architectures={"Qwen2ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
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
