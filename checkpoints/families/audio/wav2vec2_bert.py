"""Wav2Vec2-BERT (Seamless Communication, arXiv 2312.05187): a conformer over mel bins, without convolutions before it."""

from typing import Any

from api_schemas.enums import Modality
from checkpoints.config_rules import OneOf
from checkpoints.families.audio.conformer import (
    FIELDS,
    check_vocabulary,
    conformer_layout,
    conformer_tensors,
    positions_of,
)
from checkpoints.families.audio.waveform_encoder import (
    NEVER_NULL,
    REQUIRED_FILES,
    SAMPLES,
    WHILE_ENGAGED,
    head_flops,
    waveform_classes,
)
from checkpoints.families.audio.waveform_tensors import head_tensors, projection
from checkpoints.families.base import Architecture, Config, Family, Layout, Padding
from checkpoints.families.config_fields import ACTIVATION, FLAG
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.families.text.text_encoder import OTHER_FILES

WINDOW, HOP = 400, 160
"""Samples of a frame of mel bins, and from one to the next: the extractor has no settings for them."""
STRIDE = 2
"""Frames that the extractor makes one token of, where it says nothing else. Costs are counted for that."""
TOKENS = ((SAMPLES - WINDOW) // HOP + 1) // STRIDE
_POSITIONS = "relative_key"


def _layout(config: Config, architecture: Architecture) -> Layout:
    value = WAV2VEC2_BERT.value
    check_vocabulary(config, architecture)
    projected = 2 * TOKENS * value(config, "feature_projection_input_dim") * value(config, "hidden_size")
    flops = projected + head_flops(config, architecture, WAV2VEC2_BERT, TOKENS)
    kind = positions_of(config, _POSITIONS)
    return conformer_layout(config, WAV2VEC2_BERT, architecture.prefix, kind, TOKENS, flops)


def _tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    def value(key: str) -> Any:
        return WAV2VEC2_BERT.value(config, key)

    prefix, kind = architecture.prefix, positions_of(config, _POSITIONS)
    shapes = projection(value, prefix, value("feature_projection_input_dim"))
    shapes |= conformer_tensors(value, prefix, kind, norm_of_convolutions="depthwise_layer_norm")
    if kind == _POSITIONS:
        distances = value("left_max_position_embeddings") + value("right_max_position_embeddings") + 1
        table = (distances, value("hidden_size") // value("num_attention_heads"))
        for layer in range(value("num_hidden_layers")):
            shapes[f"{prefix}encoder.layers.{layer}.self_attn.distance_embedding.weight"] = table
    return shapes | head_tensors(config, architecture, labels, value)


def _padding(_config: Config, _architecture: Architecture) -> Padding:
    """A mask hides frames from attention; convolutions see nothing that comes later, and every norm is by token."""
    return Padding({"input_features": 0.0}, "attention_mask", TOKENS)


WAV2VEC2_BERT = Family(
    name="wav2vec2-bert",
    model_types=("wav2vec2-bert",),
    modality=Modality.AUDIO,
    architectures=waveform_classes("Wav2Vec2Bert", "wav2vec2_bert."),
    layout=_layout,
    defaults={
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feature_projection_input_dim": 160,
        "conv_depthwise_kernel_size": 31,
        "left_max_position_embeddings": 64,
        "right_max_position_embeddings": 8,
        "use_weighted_layer_sum": False,
        "classifier_proj_size": 768,
    },
    config_fields={
        **FIELDS,
        "position_embeddings_type": OneOf(("relative_key", "relative", "rotary"), null=True),
        "adapter_act": ACTIVATION,
        "use_intermediate_ffn_before_adapter": FLAG,
    },
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=("SeamlessM4TFeatureExtractor",),
    other_tensors=_tensors,
    refused={
        "add_adapter": (False, "adapters after the encoder are not supported; use a model without them"),
        "use_intermediate_ffn_before_adapter": (False, "adapters after the encoder are not supported"),
    },
    neurons_key="intermediate_size",
    never_null=NEVER_NULL,
    padding=_padding,
    while_engaged=WHILE_ENGAGED,
)
