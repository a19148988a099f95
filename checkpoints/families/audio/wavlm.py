"""WavLM (Chen et al., arXiv 2110.13900): wav2vec 2.0 whose attention adds relative positions, gated by a layer's input."""

from dataclasses import replace
from functools import partial

from api_schemas.enums import Modality
from checkpoints.families.audio.waveform_encoder import (
    DEFAULTS,
    NEVER_NULL,
    PREPROCESSORS,
    REFUSED,
    REQUIRED_FILES,
    WHILE_ENGAGED,
    Clip,
    features,
    positional,
    waveform_classes,
    waveform_layout,
    waveform_padding,
)
from checkpoints.families.audio.waveform_tensors import Value, positions, projected, waveform_tensors
from checkpoints.families.base import Architecture, AttentionKind, AttentionSite, Config, Family, Layout
from checkpoints.families.config_fields import WAVEFORM
from checkpoints.families.tensor_shapes import Shapes, linear
from checkpoints.families.text.text_encoder import OTHER_FILES

VALUES = {**DEFAULTS, "do_stable_layer_norm": False, "num_buckets": 320, "max_bucket_distance": 800}
GATES = 8
"""Numbers that a head's part of a layer's input becomes, of which its two gates are made."""


def _gated(site: AttentionSite) -> AttentionSite:
    """With one number a head beside its channels. The table of positions is the first layer's and stays whole: all read it."""
    gate_flops = 2 * site.shape.queries * site.shape.head_dim * GATES
    return replace(
        site,
        kind=AttentionKind.GATED_POSITIONS,
        per_head={"gru_rel_pos_const": 1},
        shape=site.shape.model_copy(update={"head_parameters": 1, "head_flops": gate_flops}),
    )


def _layout(config: Config, architecture: Architecture) -> Layout:
    frames, before = features(config, WAVLM)
    _, positions = positional(config, WAVLM, frames, WAVLM.value(config, "num_conv_pos_embeddings"))
    clip = Clip(frames, frames, before + positions)
    norms_first = WAVLM.value(config, "do_stable_layer_norm")
    layout = waveform_layout(config, architecture, WAVLM, clip, norms_first=norms_first)
    return replace(layout, attention=tuple(map(_gated, layout.attention)), carries="position_bias")


def _own(value: Value, prefix: str) -> Shapes:
    """Gates of every layer, and the table of positions, which the first layer has."""
    heads = value("num_attention_heads")
    shapes = projected(value, prefix) | positions(value, prefix)
    for layer in range(value("num_hidden_layers")):
        at = f"{prefix}encoder.layers.{layer}.attention"
        shapes[f"{at}.gru_rel_pos_const"] = (1, heads, 1, 1)
        shapes |= linear(f"{at}.gru_rel_pos_linear", GATES, value("hidden_size") // heads)
    shapes[f"{prefix}encoder.layers.0.attention.rel_attn_embed.weight"] = (value("num_buckets"), heads)
    return shapes


WAVLM = Family(
    name="wavlm",
    model_types=("wavlm",),
    modality=Modality.AUDIO,
    architectures=waveform_classes("WavLM", "wavlm."),
    layout=_layout,
    defaults=VALUES,
    config_fields=WAVEFORM,
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=PREPROCESSORS,
    other_tensors=partial(waveform_tensors, defaults=VALUES, own=_own),
    refused=REFUSED,
    neurons_key="intermediate_size",
    padding=waveform_padding,
    never_null=NEVER_NULL,
    while_engaged=WHILE_ENGAGED,
)
