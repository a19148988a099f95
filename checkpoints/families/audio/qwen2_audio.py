"""The audio tower of Qwen2-Audio (Chu et al., arXiv 2407.10759): Whisper's encoder, followed by a mean over pairs of frames."""

from api_schemas.enums import Head, Modality
from checkpoints.families.audio.waveform_encoder import REQUIRED_FILES
from checkpoints.families.base import Architecture, Config, Family, Layout
from checkpoints.families.config_fields import QWEN2_AUDIO_ENCODER as CONFIG_KEYS
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.tensor_shapes import Shapes, norm
from checkpoints.families.text.text_encoder import OTHER_FILES

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
    config_fields=CONFIG_KEYS,
    neurons_key="encoder_ffn_dim",
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=("WhisperFeatureExtractor",),
    other_tensors=_other_tensors,
    while_engaged={"encoder_layerdrop": 0.0},
)
