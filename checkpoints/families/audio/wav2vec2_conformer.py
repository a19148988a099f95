"""Wav2Vec2-Conformer (Wang et al., arXiv 2010.05171), as transformers implements it: wav2vec 2.0 with a conformer's layers."""

from api_schemas.enums import Modality
from checkpoints.families.audio.conformer import (
    FIELDS,
    check_vocabulary,
    conformer_layout,
    conformer_tensors,
    positions_of,
)
from checkpoints.families.audio.waveform_encoder import (
    DEFAULTS,
    NEVER_NULL,
    PREPROCESSORS,
    REFUSED,
    REQUIRED_FILES,
    WHILE_ENGAGED,
    features,
    head_flops,
    positional,
    waveform_classes,
)
from checkpoints.families.audio.waveform_tensors import Value, positions, projected, waveform_tensors
from checkpoints.families.base import Architecture, Config, Family, Layout
from checkpoints.families.tensor_shapes import Shapes
from checkpoints.families.text.text_encoder import OTHER_FILES

VALUES = {key: value for key, value in DEFAULTS.items() if key != "vocab_size"} | {"conv_depthwise_kernel_size": 31}


def _layout(config: Config, architecture: Architecture) -> Layout:
    frames, before = features(config, WAV2VEC2_CONFORMER)
    # The class has the convolution of positions, and does not call it.
    positional(config, WAV2VEC2_CONFORMER, frames, WAV2VEC2_CONFORMER.value(config, "num_conv_pos_embeddings"))
    check_vocabulary(config, architecture)
    flops = before + head_flops(config, architecture, WAV2VEC2_CONFORMER, frames)
    kind = positions_of(config, "relative")
    return conformer_layout(config, WAV2VEC2_CONFORMER, architecture.prefix, kind, frames, flops)


def _tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    kind = positions_of(config, "relative")

    def own(value: Value, prefix: str) -> Shapes:
        shapes = projected(value, prefix) | positions(value, prefix)
        shapes |= conformer_tensors(value, prefix, kind, norm_of_convolutions="batch_norm")
        hidden = value("hidden_size")
        for layer in range(value("num_hidden_layers")):
            at = f"{prefix}encoder.layers.{layer}.conv_module.batch_norm"
            shapes |= {f"{at}.running_mean": (hidden,), f"{at}.running_var": (hidden,)}
        if kind == "rotary":
            shapes[f"{prefix}encoder.embed_positions.inv_freq"] = (hidden // value("num_attention_heads") // 2,)
        return shapes

    return waveform_tensors(config, architecture, labels, defaults=VALUES, own=own, norms=())


WAV2VEC2_CONFORMER = Family(
    name="wav2vec2-conformer",
    model_types=("wav2vec2-conformer",),
    modality=Modality.AUDIO,
    architectures=waveform_classes("Wav2Vec2Conformer", "wav2vec2_conformer."),
    layout=_layout,
    defaults=VALUES,
    config_fields=FIELDS,
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=PREPROCESSORS,
    other_tensors=_tensors,
    refused=REFUSED,
    neurons_key="intermediate_size",
    never_null=NEVER_NULL,
    while_engaged=WHILE_ENGAGED,
)
