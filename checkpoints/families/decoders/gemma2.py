"""Gemma 2 (Gemma Team, arXiv 2408.00118), as transformers implements it: norms also after each block, capped scores."""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.config_rules import ListOf, Number, OneOf
from checkpoints.families.base import Config, Family, UnusableConfigError
from checkpoints.families.config_fields import ACTIVATION, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.gemma import GEMMA_REFUSED
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    WHOLE,
    WINDOW,
    Biases,
    GroupedSizes,
    layout_from,
    sizes_of,
    tensors_from,
)
from checkpoints.families.encoder import MAX_LAYERS, head_width
from checkpoints.files.preprocessor_files import VOCABULARIES

CAP = Number(1e-3, 1e6, null=True)


def _sizes(config: Config) -> GroupedSizes:
    config = GEMMA2.filled(config)
    # The class refuses others, though its heads have a width of their own.
    head_width(config["hidden_size"], config["num_attention_heads"], "num_attention_heads")
    attention = config["attention_bias"]
    sizes = sizes_of(config, Biases(attention, attention))
    return replace(sizes, types=windows(config, sizes.layers, 2), norms_after=True)


def windows(config: Config, layers: int, every: int) -> tuple[str, ...]:
    """Of each layer, which tokens it sees: by name, or all of them in each `every`th. Raises UnusableConfigError."""
    said = config.get("layer_types")
    if said is None:
        said = [WINDOW if layer % every else WHOLE for layer in range(1, layers + 1)]
    if len(said) != layers:
        raise UnusableConfigError("layer_types", f"must have as many entries as num_hidden_layers, {layers}")
    if WINDOW in said and "sliding_window" in config and config["sliding_window"] is None:
        raise UnusableConfigError("sliding_window", f"layers of the type {WINDOW} require one")
    return tuple(said)


GEMMA2 = Family(
    name="gemma2",
    model_types=("gemma2",),
    modality=Modality.TEXT,
    architectures={"Gemma2ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=layout_from(_sizes),
    defaults={
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    config_fields={
        **FIELDS,
        "hidden_activation": ACTIVATION,
        "query_pre_attn_scalar": SIZE,
        "sliding_window": SIZE,
        "layer_types": ListOf(OneOf((WHOLE, WINDOW)), MAX_LAYERS),
        **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), CAP),
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
