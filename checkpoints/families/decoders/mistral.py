"""Mistral (Jiang et al., arXiv 2310.06825), as transformers implements it: a Llama with sliding-window attention."""

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
from checkpoints.files.preprocessor_files import VOCABULARIES


def _sizes(config: Config) -> GroupedSizes:
    return sizes_of(MISTRAL.filled(config), Biases())


MISTRAL = Family(
    name="mistral",
    model_types=("mistral",),
    modality=Modality.TEXT,
    architectures={"MistralForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    config_fields={**FIELDS, "sliding_window": SIZE},
    refused=REFUSED,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    # Names and shapes are Llama's, which a config that says nothing is taken for.
    twin=True,
    while_engaged=WHILE_ENGAGED,
)
