"""Qwen2-Audio (Chu et al., arXiv 2407.10759): its audio tower (Whisper's encoder, followed by a mean over pairs of frames), alone
or as the part of the whole model that is pruned; there, a projection and a Qwen2 follow.
"""

import re
from dataclasses import replace

from api_schemas.enums import Head, Modality
from checkpoints.families.audio.waveform_encoder import REQUIRED_FILES
from checkpoints.families.base import Architecture, Config, Family, Layout, Part
from checkpoints.families.config_fields import QWEN2_AUDIO as WHOLE_KEYS
from checkpoints.families.config_fields import QWEN2_AUDIO_ENCODER as CONFIG_KEYS
from checkpoints.families.decoders.qwen2 import QWEN2
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.text_encoder import OTHER_FILES, TEXT_FILES
from checkpoints.families.whole import inner_config, layout_of, placed, tensors_of
from checkpoints.files.preprocessor_files import CHAT_TEMPLATES, GENERATION

CONVOLUTION = 3
"""Kernel of both convolutions before the layers; the second halves the number of frames."""
_NAMES = EncoderNames(
    layer="layers.{layer}",
    attention="self_attn",
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.out_proj",
    first="fc1",
    second="fc2",
    attention_stream="self_attn_layer_norm",
    feed_forward_stream="final_layer_norm",
)


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    hidden, heads = (QWEN2_AUDIO_ENCODER.value(config, key) for key in ("d_model", "encoder_attention_heads"))
    tokens = QWEN2_AUDIO_ENCODER.value(config, "max_source_positions")
    sizes = EncoderSizes(
        layers=QWEN2_AUDIO_ENCODER.value(config, "encoder_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "encoder_attention_heads"),
        neurons=QWEN2_AUDIO_ENCODER.value(config, "encoder_ffn_dim"),
        tokens=tokens,
        k_bias=False,
        layers_key="encoder_layers",
    )
    # Two convolutions, the first at two frames a position.
    products = CONVOLUTION * hidden * (2 * QWEN2_AUDIO_ENCODER.value(config, "num_mel_bins") + hidden) * tokens
    return encoder(sizes, _NAMES, 2 * products)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del architecture, labels
    hidden, mels = (QWEN2_AUDIO_ENCODER.value(config, key) for key in ("d_model", "num_mel_bins"))
    shapes: Shapes = {
        "conv1.weight": (hidden, mels, CONVOLUTION),
        "conv1.bias": (hidden,),
        "conv2.weight": (hidden, hidden, CONVOLUTION),
        "conv2.bias": (hidden,),
        "embed_positions.weight": (QWEN2_AUDIO_ENCODER.value(config, "max_source_positions"), hidden),
        **norm("layer_norm", hidden),
    }
    for layer in range(QWEN2_AUDIO_ENCODER.value(config, "encoder_layers")):
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= norm(f"layers.{layer}.{name}", hidden)
    return shapes


QWEN2_AUDIO_ENCODER = Family(
    name="qwen2_audio_encoder",
    model_types=("qwen2_audio_encoder",),
    modality=Modality.AUDIO,
    architectures={
        "Qwen2AudioEncoder": Architecture(task="feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel"),
    },
    layout=_layout,
    defaults={
        "d_model": 1280,
        "encoder_layers": 32,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
        "num_mel_bins": 128,
        "max_source_positions": 1500,
    },
    aliases={
        "hidden_size": "d_model",
        "intermediate_size": "encoder_ffn_dim",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    },
    config_fields=CONFIG_KEYS,
    neurons_key="encoder_ffn_dim",
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=("WhisperFeatureExtractor",),
    other_tensors=_other_tensors,
    while_engaged={"encoder_layerdrop": 0.0},
)


AUDIO, TEXT = "audio_config", "text_config"
_PART = Part(
    config_key=AUDIO,
    encoder="model.audio_tower",
    projection="model.multi_modal_projector",
    projection_class="Qwen2AudioMultiModalProjector",
    rest="its language model",
)
_PUBLISHED_NAMES = (
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.(?=audio_tower\.|multi_modal_projector\.)", ""),
)
"""How files have been written since before the whole model was one module, and as transformers 5 writes them."""


def _projection(config: Config) -> tuple[int, int]:
    """Inputs and outputs of the projection."""
    audio, text = inner_config(config, AUDIO), inner_config(config, TEXT)
    return QWEN2_AUDIO_ENCODER.value(audio, "d_model"), QWEN2.value(text, "hidden_size")


def _whole_layout(config: Config, architecture: Architecture) -> Layout:
    """The tower's blocks. FLOPs are those of a recording up to where the language model reads it: what that computes depends on
    what is asked and answered.
    """
    del architecture
    layout_of(config, TEXT, QWEN2)
    tower = layout_of(config, AUDIO, QWEN2_AUDIO_ENCODER)
    inputs, outputs = _projection(config)
    tokens = tower.attention[0].shape.queries // 2
    return placed(replace(tower, other_flops=tower.other_flops + 2 * tokens * inputs * outputs), _PART.encoder)


def _all_other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    """The tower's beside its blocks, the projection, and the language model, whose head is a tensor of its own in any case."""
    del architecture
    audio = inner_config(config, AUDIO)
    tower = _other_tensors(audio, next(iter(QWEN2_AUDIO_ENCODER.architectures.values())), labels)
    inputs, outputs = _projection(config)
    untied = {**config, TEXT: {**inner_config(config, TEXT), "tie_word_embeddings": False}}
    language = tensors_of(untied, TEXT, QWEN2)
    return {
        **{f"{_PART.encoder}.{name}": shape for name, shape in tower.items()},
        **linear(f"{_PART.projection}.linear", outputs, inputs),
        **{re.sub(r"^model\.", "model.language_model.", name): shape for name, shape in language.items()},
    }


QWEN2_AUDIO = Family(
    name="qwen2_audio",
    model_types=("qwen2_audio",),
    modality=Modality.AUDIO,
    architectures={
        "Qwen2AudioForConditionalGeneration": Architecture(
            task="audio-text-to-text",
            head=Head.HIDDEN_STATES,
            auto_class="AutoModelForSeq2SeqLM",
            prefix=f"{_PART.encoder}.",
        ),
    },
    layout=_whole_layout,
    defaults={"audio_token_index": 151646},
    aliases={"audio_token_id": "audio_token_index"},
    config_fields=WHOLE_KEYS,
    neurons_key="encoder_ffn_dim",
    required_files=REQUIRED_FILES,
    optional_files=(*TEXT_FILES, GENERATION, *CHAT_TEMPLATES),
    preprocessors=QWEN2_AUDIO_ENCODER.preprocessors,
    saved_names=((), _PUBLISHED_NAMES),
    other_tensors=_all_other_tensors,
    no_export="Only the audio tower of a Qwen2-Audio is loaded, and an exported file would be no whole model.",
    no_torchao="Only the audio tower of a Qwen2-Audio is loaded, and a folder in eight bits would be no whole model.",
    part=_PART,
    inner={AUDIO: QWEN2_AUDIO_ENCODER, TEXT: QWEN2},
)
