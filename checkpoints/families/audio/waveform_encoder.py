"""What waveform transformers (wav2vec 2.0, HuBERT, UniSpeech and others) share: convolutions before the blocks, heads after."""

from typing import NamedTuple

from api_schemas.enums import Head
from checkpoints.families.base import Architecture, Config, Family, Layout, Padding, UnusableConfigError
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width, label_count
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR

SAMPLES = 5 * 16_000
"""A clip may have any length: costs are those of five seconds at 16 kHz, a short sentence."""
# Attention costs grow with the square of the length, and a batch holds clips of one length: half a minute is the longest that is
# usual for these models, and what speech recognition data is cut to.
MAX_SECONDS = 30.0

DEFAULTS = {
    "vocab_size": 32,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "feat_extract_norm": "group",
    "conv_dim": (512,) * 7,
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_bias": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "use_weighted_layer_sum": False,
    "classifier_proj_size": 256,
}
REFUSED = {
    "add_adapter": (False, "convolutional adapters after the encoder are not supported; use a model without them"),
    "adapter_attn_dim": (None, "adapters in the layers are not supported; use a model that was fine-tuned as a whole"),
    "conv_pos_batch_norm": (
        False,
        "batch norm makes samples depend on each other; only weight norm is supported there",
    ),
}
# Masks are drawn by a generator that no seed of a job sets; and what is recovered is the model that will be used: whole.
WHILE_ENGAGED = {"apply_spec_augment": False, "layerdrop": 0.0}
# The blank of CTC.
NEVER_NULL = ("pad_token_id",)
# Stands for what those masks hide: wav2vec2-base-960h was published without it.
MASK = r"(\w+\.)?masked_spec_embed"
PREPROCESSORS = ("Wav2Vec2FeatureExtractor",)
REQUIRED_FILES = ("config.json", (PREPROCESSOR, PROCESSOR))


class Clip(NamedTuple):
    """What a clip of SAMPLES becomes."""

    tokens: int
    """Of the transformer's layers."""
    answered: int
    """Of the head."""
    flops: int
    """Of everything but layers and head."""


def _conv_lengths(config: Config, family: Family) -> list[int]:
    """Samples of the clip, and what every convolution of the feature encoder makes of them. Raises UnusableConfigError."""
    kernels, strides = family.value(config, "conv_kernel"), family.value(config, "conv_stride")
    if not len(kernels) == len(strides) == len(family.value(config, "conv_dim")):
        raise UnusableConfigError("conv_dim", "conv_dim, conv_kernel and conv_stride must have the same length")
    if family.value(config, "feat_extract_norm") not in ("group", "layer"):
        raise UnusableConfigError("feat_extract_norm", "must be group or layer")
    lengths = [SAMPLES]
    for kernel, stride in zip(kernels, strides, strict=True):
        lengths.append((lengths[-1] - kernel) // stride + 1)
    if lengths[-1] < 1:
        raise UnusableConfigError("conv_kernel", "no frame is left of five seconds of audio after the convolutions")
    return lengths


def features(config: Config, family: Family) -> tuple[int, int]:
    """Frames that the feature encoder makes of a clip, and its FLOPs with those of the map to the hidden size."""
    lengths, dims = _conv_lengths(config, family), (1, *family.value(config, "conv_dim"))
    steps = zip(lengths[1:], dims[:-1], dims[1:], family.value(config, "conv_kernel"), strict=True)
    convolved = sum(2 * length * inner * outer * kernel for length, inner, outer, kernel in steps)
    return lengths[-1], convolved + 2 * lengths[-1] * dims[-1] * int(family.value(config, "hidden_size"))


def positional(config: Config, family: Family, frames: int, kernel: int, stride: int = 1) -> tuple[int, int]:
    """Frames behind one positional convolution, before any is left out, and its FLOPs. Raises UnusableConfigError."""
    hidden, groups = family.value(config, "hidden_size"), family.value(config, "num_conv_pos_embedding_groups")
    if hidden % groups:
        raise UnusableConfigError("num_conv_pos_embedding_groups", f"they do not divide the hidden size {hidden}")
    length = (frames + 2 * (kernel // 2) - kernel) // stride + 1
    return length, 2 * length * hidden * (hidden // groups) * kernel


def head_flops(config: Config, architecture: Architecture, family: Family, tokens: int) -> int:
    """CTC: a map of every token to the vocabulary. Classification: one of every token, and one of their mean to the labels. None
    of the plain encoder."""
    hidden = int(family.value(config, "hidden_size"))
    if architecture.head is Head.CTC:
        return 2 * tokens * hidden * int(family.value(config, "vocab_size"))
    if architecture.head is Head.HIDDEN_STATES:
        return 0
    width = int(family.value(config, "classifier_proj_size"))
    return 2 * width * (tokens * hidden + label_count(config))


def waveform_padding(config: Config, architecture: Architecture) -> Padding | None:
    """Silence that a mask hides. Not with feat_extract_norm "group": a norm over all frames of a clip would hear it in each."""
    del architecture
    exact = config.get("feat_extract_norm", DEFAULTS["feat_extract_norm"]) == "layer"
    return Padding({"input_values": 0.0}, "attention_mask", SAMPLES) if exact else None


def waveform_names(prefix: str, *, norms_first: bool) -> EncoderNames:
    """Names in the module tree."""
    return EncoderNames(
        layer=f"{prefix}encoder.layers.{{layer}}",
        attention="attention",
        q="attention.q_proj",
        k="attention.k_proj",
        v="attention.v_proj",
        o="attention.out_proj",
        first="feed_forward.intermediate_dense",
        second="feed_forward.output_dense",
        attention_stream="layer_norm" if norms_first else "attention",
        feed_forward_stream="final_layer_norm" if norms_first else "feed_forward",
    )


def waveform_classes(stock: str, prefix: str) -> dict[str, Architecture]:
    """The classes whose names start with `stock`: the plain encoder, and it with a head."""
    return {
        f"{stock}ForSequenceClassification": Architecture(
            task="audio-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForAudioClassification",
            classifiers=("projector", "classifier"),
            prefix=prefix,
            dispensable=MASK,
        ),
        f"{stock}ForCTC": Architecture(
            task="automatic-speech-recognition",
            head=Head.CTC,
            auto_class="AutoModelForCTC",
            classifiers=("lm_head",),
            prefix=prefix,
            dispensable=MASK,
        ),
        f"{stock}Model": Architecture(
            task="feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel", dispensable=MASK
        ),
    }


def waveform_layout(
    config: Config, architecture: Architecture, family: Family, clip: Clip, *, norms_first: bool = False
) -> Layout:
    """The blocks of an encoder without anything of its own in its attention."""
    hidden, heads = family.value(config, "hidden_size"), family.value(config, "num_attention_heads")
    sizes = EncoderSizes(
        layers=family.value(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=family.value(config, "intermediate_size"),
        tokens=clip.tokens,
    )
    other_flops = clip.flops + head_flops(config, architecture, family, clip.answered)
    return encoder(sizes, waveform_names(architecture.prefix, norms_first=norms_first), other_flops)
