"""wav2vec 2.0 (Baevski et al., arXiv 2006.11477), HuBERT (Hsu et al., arXiv 2106.07447), data2vec (Baevski et al., arXiv
2202.03555), SEW (Wu et al., arXiv 2109.06870), UniSpeech (Wang et al., arXiv 2101.07597) and UniSpeech-SAT (Chen et al., arXiv
2110.05752), as transformers implements them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from api_schemas.enums import Head, Modality
from checkpoints.families.audio.waveform_encoder import (
    DEFAULTS,
    MASK,
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
from checkpoints.families.audio.waveform_tensors import Own, Value, positions, projected, waveform_tensors
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import WAVEFORM
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.text_encoder import OTHER_FILES


def _wav2vec2(config: Config, architecture: Architecture) -> Layout:
    frames, before = features(config, WAV2VEC2)
    _, positions = positional(config, WAV2VEC2, frames, WAV2VEC2.value(config, "num_conv_pos_embeddings"))
    if architecture == PRETRAINING:
        before += 2 * frames * sum(rows * columns for rows, columns in _codes(config).values())
    clip = Clip(frames, frames, before + positions)
    norms_first = WAV2VEC2.value(config, "do_stable_layer_norm")
    return waveform_layout(config, architecture, WAV2VEC2, clip, norms_first=norms_first)


def _data2vec(config: Config, architecture: Architecture) -> Layout:
    frames, before = features(config, DATA2VEC_AUDIO)
    # Several convolutions of few positions, one after another.
    _, positions = positional(config, DATA2VEC_AUDIO, frames, DATA2VEC_AUDIO.value(config, "conv_pos_kernel_size"))
    layers = DATA2VEC_AUDIO.value(config, "num_conv_pos_embeddings")
    return waveform_layout(config, architecture, DATA2VEC_AUDIO, Clip(frames, frames, before + layers * positions))


def _sew(config: Config, architecture: Architecture) -> Layout:
    """Its transformer sees one token for every few frames; behind it they become as many as before."""
    hidden, squeeze = SEW.value(config, "hidden_size"), SEW.value(config, "squeeze_factor")
    width, kernel = SEW.value(config, "conv_dim")[-1], SEW.value(config, "num_conv_pos_embeddings")
    frames, before = features(config, SEW)
    if width == hidden:
        before -= 2 * frames * width * hidden
    length, positions = positional(config, SEW, frames, kernel, squeeze)
    tokens = min(length - (kernel % 2 == 0), frames // squeeze)
    if tokens < 1:
        raise UnusableConfigError("squeeze_factor", "no frame is left of five seconds of audio")
    answered = max(frames, tokens * squeeze)
    if architecture.head is Head.CLASSIFICATION and SEW.value(config, "use_weighted_layer_sum"):
        answered = tokens
    clip = Clip(tokens, answered, before + positions + 2 * tokens * hidden * hidden * squeeze)
    return waveform_layout(config, architecture, SEW, clip)


def _codes(config: Config) -> dict[str, tuple[int, int]]:
    """Maps of pretraining behind the encoder and beside it, rows and columns. Raises UnusableConfigError."""
    groups, entries, width, shared = (
        config.get(key) or default
        for key, default in (
            ("num_codevector_groups", 2),
            ("num_codevectors_per_group", 320),
            ("codevector_dim", 256),
            ("proj_codevector_dim", 256),
        )
    )
    if width % groups:
        raise UnusableConfigError("num_codevector_groups", f"they do not divide codevector_dim {width}")
    return {
        "quantizer.weight_proj": (groups * entries, WAV2VEC2.value(config, "conv_dim")[-1]),
        "project_hid": (shared, WAV2VEC2.value(config, "hidden_size")),
        "project_q": (shared, width),
    }


def _wav2vec2_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    """Those of any class and, of pretraining's, the codes that it tells frames by."""
    shapes = waveform_tensors(config, architecture, labels, defaults=WAV2VEC2.defaults, own=_of_wav2vec2)
    if architecture == PRETRAINING:
        maps = _codes(config)
        for path, (rows, columns) in maps.items():
            shapes |= linear(path, rows, columns)
        width, groups = maps["project_q"][1], config.get("num_codevector_groups") or 2
        shapes["quantizer.codevectors"] = (1, maps["quantizer.weight_proj"][0], width // groups)
    return shapes


def _of_wav2vec2(value: Value, prefix: str) -> Shapes:
    return projected(value, prefix) | positions(value, prefix)


def _of_hubert(value: Value, prefix: str) -> Shapes:
    shapes = _of_wav2vec2(value, prefix)
    absent = () if value("feat_proj_layer_norm") else norm(f"{prefix}feature_projection.layer_norm", 0)
    return {name: shape for name, shape in shapes.items() if name not in absent}


def _of_data2vec(value: Value, prefix: str) -> Shapes:
    """Convolutions of positions with plain weights, one after another; and a norm behind every one that makes features."""
    hidden, groups = value("hidden_size"), value("num_conv_pos_embedding_groups")
    shapes = projected(value, prefix)
    for number, width in enumerate(value("conv_dim")):
        shapes |= norm(f"{prefix}feature_extractor.conv_layers.{number}.layer_norm", width)
    for number in range(value("num_conv_pos_embeddings")):
        at = f"{prefix}encoder.pos_conv_embed.layers.{number}.conv"
        shapes |= {
            f"{at}.weight": (hidden, hidden // groups, value("conv_pos_kernel_size")),
            f"{at}.bias": (hidden,),
        }
    return shapes


def _of_sew(value: Value, prefix: str) -> Shapes:
    """No map to the hidden size where features have it already; and one that makes one token several."""
    hidden, width = value("hidden_size"), value("conv_dim")[-1]
    shapes = norm(f"{prefix}layer_norm", width) | positions(value, prefix)
    if width != hidden:
        shapes |= linear(f"{prefix}feature_projection", hidden, width)
    return shapes | linear(f"{prefix}encoder.upsample.projection", hidden * value("squeeze_factor"), hidden)


def _family(
    name: str,
    stock: str,
    prefix: str,
    layout: Callable[[Config, Architecture], Layout],
    own: Own,
    defaults: Mapping[str, Any],
) -> Family:
    return Family(
        name=name,
        model_types=(name,),
        modality=Modality.AUDIO,
        architectures=waveform_classes(stock, prefix),
        layout=layout,
        defaults={**DEFAULTS, **defaults},
        config_fields=WAVEFORM,
        required_files=REQUIRED_FILES,
        optional_files=OTHER_FILES,
        preprocessors=PREPROCESSORS,
        other_tensors=partial(waveform_tensors, defaults={**DEFAULTS, **defaults}, own=own),
        refused=REFUSED,
        neurons_key="intermediate_size",
        never_null=NEVER_NULL,
        while_engaged=WHILE_ENGAGED,
    )


PRETRAINING = Architecture(
    task="feature-extraction",
    head=Head.HIDDEN_STATES,
    auto_class="AutoModelForPreTraining",
    prefix="wav2vec2.",
    dispensable=MASK,
)
"""The plain encoder, and what pretraining put on it, which stays as it is."""
_PLAIN = _family("wav2vec2", "Wav2Vec2", "wav2vec2.", _wav2vec2, _of_wav2vec2, {"do_stable_layer_norm": False})
WAV2VEC2 = replace(
    _PLAIN,
    architectures={**_PLAIN.architectures, "Wav2Vec2ForPreTraining": PRETRAINING},
    other_tensors=_wav2vec2_tensors,
    padding=waveform_padding,
)
HUBERT = replace(
    _family(
        "hubert",
        "Hubert",
        "hubert.",
        _wav2vec2,
        _of_hubert,
        {"do_stable_layer_norm": False, "feat_proj_layer_norm": True},
    ),
    padding=waveform_padding,
)
UNISPEECH = replace(
    _family("unispeech", "UniSpeech", "unispeech.", _wav2vec2, _of_wav2vec2, {"do_stable_layer_norm": False}),
    padding=waveform_padding,
)
UNISPEECH_SAT = replace(
    _family(
        "unispeech-sat", "UniSpeechSat", "unispeech_sat.", _wav2vec2, _of_wav2vec2, {"do_stable_layer_norm": False}
    ),
    padding=waveform_padding,
    never_null=(*NEVER_NULL, "bos_token_id", "eos_token_id"),
)
# Its positions are several convolutions, one after another: silence that a mask has hidden from the first reaches the next.
DATA2VEC_AUDIO = _family(
    "data2vec-audio",
    "Data2VecAudio",
    "data2vec_audio.",
    _data2vec,
    _of_data2vec,
    {"conv_pos_kernel_size": 19, "num_conv_pos_embeddings": 5},
)
SEW = replace(
    _family(
        "sew",
        "SEW",
        "sew.",
        _sew,
        _of_sew,
        {
            "squeeze_factor": 2,
            "conv_dim": (64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512),
            "conv_stride": (5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1),
            "conv_kernel": (10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1),
        },
    ),
    no_export="SEW merges pairs of frames and trims the remainder, which torch's exporter can only do for one fixed length.",
)
