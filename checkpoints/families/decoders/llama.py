"""Llama (Touvron et al., arXiv 2302.13971; 2307.09288), as transformers implements it; also SmolLM, TinyLlama and others."""

from api_schemas.enums import Modality
from checkpoints.families.base import Config, Family
from checkpoints.families.config_fields import SIZE
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
from checkpoints.families.encoder import head_width
from checkpoints.files.preprocessor_files import VOCABULARIES


def _sizes(config: Config) -> GroupedSizes:
    config = LLAMA.filled(config)
    # The class refuses others, also where `head_dim` says another width.
    head_width(config["hidden_size"], config["num_attention_heads"], "num_attention_heads")
    attention = config["attention_bias"]
    return sizes_of(config, Biases(attention, attention, config["mlp_bias"]))


LLAMA = Family(
    name="llama",
    model_types=("llama",),
    modality=Modality.TEXT,
    architectures={
        # Older files have the frequencies of positions, which the class computes.
        "LlamaForCausalLM": causal_class(PREFIX, "embed_tokens", r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
    },
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    config_fields={**FIELDS, "num_key_value_heads": SIZE},
    refused=REFUSED,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
