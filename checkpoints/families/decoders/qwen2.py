"""Qwen2 (Yang et al., arXiv 2407.10671), as transformers implements it, Qwen2.5 too: biases of q, k and v alone."""

from api_schemas.enums import Modality
from checkpoints.config_rules import ListOf, OneOf
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import COUNT, FLAG, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.grouped import (
    FIELDS,
    GROUPS,
    PREFIX,
    REFUSED,
    Biases,
    GroupedSizes,
    grouped_layout,
    grouped_tensors,
    sizes_of,
)
from checkpoints.families.encoder import MAX_LAYERS
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.files.preprocessor_files import VOCABULARIES

WHOLE, WINDOW = "full_attention", "sliding_attention"
"""transformers' names of layers whose tokens see all before them, and of those that see a window."""


def _sizes(config: Config) -> GroupedSizes:
    return sizes_of(QWEN2.filled(config), Biases(qkv=True))


def _types(config: Config, layers: int) -> tuple[str, ...]:
    """Of each layer, as the class reads them: by name, or a window from `max_window_layers` on."""
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


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    sizes = _sizes(config)
    return grouped_layout(sizes, _types(config, sizes.layers))


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    return grouped_tensors(_sizes(config), QWEN2.filled(config), architecture)


QWEN2 = Family(
    name="qwen2",
    model_types=("qwen2",),
    modality=Modality.TEXT,
    architectures={"Qwen2ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=_layout,
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
    config_fields={
        **FIELDS,
        "use_sliding_window": FLAG,
        "sliding_window": SIZE,
        "max_window_layers": COUNT,
        "layer_types": ListOf(OneOf((WHOLE, WINDOW)), MAX_LAYERS),
    },
    refused=REFUSED,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=_other_tensors,
    neurons_key="intermediate_size",
    groups_keys=GROUPS,
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
