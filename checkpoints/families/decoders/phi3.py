"""Phi-3 (Abdin et al., arXiv 2404.14219) as transformers implements it, also Phi-4: a Llama with one map for q, k and v, and one
for both inner maps of its gated feed-forward blocks."""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.config_rules import AnyOf, Null
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import RATE, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.grouped import (
    FIELDS,
    FOLLOWS,
    LONGROPE,
    PREFIX,
    Biases,
    GroupedSizes,
    grouped_layout,
    rotated_channels,
    sizes_of,
    tensors_from,
)
from checkpoints.files.preprocessor_files import VOCABULARIES

_PADDING = 32000
"""The class's token for padding, where a config does not say which, or null for none."""


def _sizes(config: Config) -> GroupedSizes:
    for key in ("rope_parameters", "rope_scaling"):
        said = config.get(key) or {}
        factors = not said.keys().isdisjoint(("short_factor", "long_factor"))
        kind = "longrope" if factors else said.get("rope_type", said.get("type", "default"))
        if kind != "default":
            raise UnusableConfigError(
                key,
                f"positions of type {kind} are not supported: Phi-3 treats every type except default as longrope, whose angles "
                "depend on the length of the text. Use a model for at most 4096 tokens, which does not need it",
            )
    sizes = sizes_of(PHI3.filled({"pad_token_id": _PADDING, **config}), Biases())
    return replace(sizes, rotary=rotated_channels(config, sizes.head_dim, 1.0))


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    layout = grouped_layout(_sizes(config))
    attention, feed_forward = [], []
    for site, block in zip(layout.attention, layout.feed_forward, strict=True):
        joined, inner = f"{site.module}.qkv_proj", block.first.replace("gate_proj", "gate_up_proj")
        attention.append(replace(site, q=f"{joined}.q", k=f"{joined}.k", v=f"{joined}.v", joined=joined))
        feed_forward.append(replace(block, first=f"{inner}.gate", up=f"{inner}.up", joined=inner))
    return replace(layout, attention=tuple(attention), feed_forward=tuple(feed_forward))


PHI3 = Family(
    name="phi3",
    model_types=("phi3",),
    modality=Modality.TEXT,
    architectures={"Phi3ForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=_layout,
    defaults={
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    config_fields={
        **{key: rule for key, rule in FIELDS.items() if key not in ("head_dim", "pretraining_tp")},
        **dict.fromkeys(("rope_parameters", "rope_scaling"), AnyOf(LONGROPE, Null())),
        "num_key_value_heads": AnyOf(SIZE, Null()),
        **dict.fromkeys(("partial_rotary_factor", "resid_pdrop", "embd_pdrop"), RATE),
        "sliding_window": SIZE,
    },
    refused=FOLLOWS,
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=tensors_from(_sizes),
    neurons_key="intermediate_size",
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
