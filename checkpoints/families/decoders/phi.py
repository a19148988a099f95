"""Phi (Gunasekar et al., arXiv 2306.11644; 2309.05463) as transformers implements it: phi-1, phi-1.5 and phi-2.

Attention and the feed-forward block of a layer read the same norm and are added to the residual stream together. Only the first
channels of a head are rotated by position, half of them if the config does not say.
"""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.config_rules import AnyOf, Null
from checkpoints.families.base import Architecture, Config, Family, FeedForwardSite, Layout
from checkpoints.families.config_fields import RATE, SIZE
from checkpoints.families.decoders.causal import CAUSAL_FILES, WHILE_ENGAGED, causal_class, causal_padding
from checkpoints.families.decoders.grouped import (
    FIELDS,
    FOLLOWS,
    PARTIAL_ROPE,
    PREFIX,
    Biases,
    GroupedSizes,
    grouped_layout,
    rotated_channels,
    sizes_of,
)
from checkpoints.families.tensor_shapes import Shapes, norm
from checkpoints.files.preprocessor_files import VOCABULARIES

ROTATED = 0.5
"""Of the channels of a head, where a config does not say which share."""


def _sizes(config: Config) -> GroupedSizes:
    sizes = sizes_of(PHI.filled(config), Biases(qkv=True, o=True, feed_forward=True))
    return replace(sizes, rotary=rotated_channels(config, sizes.head_dim, ROTATED))


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    layout = grouped_layout(_sizes(config))
    (layers,) = layout.stacks
    return replace(
        layout,
        attention=tuple(replace(site, o=f"{site.module}.dense") for site in layout.attention),
        feed_forward=tuple(
            FeedForwardSite(
                first=f"{at}.mlp.fc1",
                second=f"{at}.mlp.fc2",
                # What it is added to has the attention's output, too, which is fitted to the whole stream before.
                stream=None,
                shape=site.shape.model_copy(update={"gated": False}),
            )
            for at, site in zip(layers, layout.feed_forward, strict=True)
        ),
    )


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    sizes = _sizes(config)
    shapes: Shapes = {
        f"{PREFIX}embed_tokens.weight": (sizes.words, sizes.hidden),
        **norm(f"{PREFIX}final_layernorm", sizes.hidden),
        "lm_head.bias": (sizes.words,),
    }
    for layer in range(sizes.layers):
        shapes |= norm(f"{PREFIX}layers.{layer}.input_layernorm", sizes.hidden)
    return shapes if sizes.tied else shapes | {name: shapes[source] for name, source in architecture.tied.items()}


PHI = Family(
    name="phi",
    model_types=("phi",),
    modality=Modality.TEXT,
    architectures={"PhiForCausalLM": causal_class(PREFIX, "embed_tokens")},
    layout=_layout,
    defaults={
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
    config_fields={
        **{key: rule for key, rule in FIELDS.items() if key not in ("head_dim", "rms_norm_eps", "pretraining_tp")},
        **dict.fromkeys(("rope_parameters", "rope_scaling"), AnyOf(PARTIAL_ROPE, Null())),
        "num_key_value_heads": AnyOf(SIZE, Null()),
        **dict.fromkeys(("partial_rotary_factor", "resid_pdrop", "embd_pdrop"), RATE),
    },
    refused={
        **FOLLOWS,
        "qk_layernorm": (False, "norms of queries and keys are not supported here; phi-1, phi-1_5 and phi-2 have none"),
    },
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=_other_tensors,
    neurons_key="intermediate_size",
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
