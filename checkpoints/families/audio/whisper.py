"""Whisper (Radford et al., arXiv 2212.04356): an encoder of mel spectrograms, and a decoder that attends to it or a head."""

from api_schemas.enums import Head, Modality
from checkpoints.families.audio.waveform_encoder import REQUIRED_FILES
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    FeedForwardSite,
    Layout,
    Padding,
    UnusableConfigError,
)
from checkpoints.families.config_fields import WHISPER as CONFIG_KEYS
from checkpoints.families.encoder import MAX_LAYERS, head_width, label_count
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.text_encoder import OTHER_FILES
from checkpoints.files.preprocessor_files import GENERATION, SPELLINGS
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape

DECODER_TOKENS = 64
"""What costs are counted for: a transcript of 30 seconds of speech, about. The encoder's input always has one length."""
CONVOLUTION = 3
"""Kernel of both convolutions before the encoder; the second halves the number of frames."""


def _attention(layer: str, name: str, shape: AttentionShape, kind: AttentionKind) -> AttentionSite:
    module = f"{layer}.{name}"
    return AttentionSite(
        module=module,
        q=f"{module}.q_proj",
        k=f"{module}.k_proj",
        v=f"{module}.v_proj",
        o=f"{module}.out_proj",
        stream=f"{module}_layer_norm",
        shape=shape,
        kind=kind,
    )


def _feed_forward(layer: str, shape: FeedForwardShape) -> FeedForwardSite:
    return FeedForwardSite(first=f"{layer}.fc1", second=f"{layer}.fc2", stream=f"{layer}.final_layer_norm", shape=shape)


def _sides(architecture: Architecture) -> tuple[str, ...]:
    """A classifier has no decoder."""
    return ("encoder",) if architecture.head is Head.CLASSIFICATION else ("encoder", "decoder")


def _projected(config: Config) -> int:
    """Width of what a classifier makes of every token, before their mean."""
    width = config.get("classifier_proj_size")
    if width == 0:
        raise UnusableConfigError("classifier_proj_size", "must be a whole number of at least 1")
    return 256 if width is None else int(width)


def _head_dim(config: Config, sides: tuple[str, ...]) -> int:
    hidden = WHISPER.value(config, "d_model")
    keys = [f"{side}_attention_heads" for side in sides]
    found = {key: head_width(hidden, WHISPER.value(config, key), key) for key in keys}
    if len(set(found.values())) > 1:
        said = " and ".join(f"{width} ({key})" for key, width in found.items())
        raise UnusableConfigError(
            "decoder_attention_heads", f"all heads must have the same width, but these are {said} wide"
        )
    return found["encoder_attention_heads"]


def _layout(config: Config, architecture: Architecture) -> Layout:
    sides = _sides(architecture)
    hidden, head_dim = WHISPER.value(config, "d_model"), _head_dim(config, sides)
    source = WHISPER.value(config, "max_source_positions")
    target = min(DECODER_TOKENS, WHISPER.value(config, "max_target_positions"))
    counts = {side: WHISPER.value(config, f"{side}_layers") for side in sides}
    for side, count in counts.items():
        if count > MAX_LAYERS:
            raise UnusableConfigError(f"{side}_layers", f"at most {MAX_LAYERS} layers are supported")

    def attention(number: int, side: str, queries: int, keys: int) -> AttentionShape:
        return AttentionShape(
            layer=number,
            heads=WHISPER.value(config, f"{side}_attention_heads"),
            head_dim=head_dim,
            hidden=hidden,
            source=hidden,
            q_bias=True,
            k_bias=False,
            v_bias=True,
            o_bias=True,
            queries=queries,
            keys=keys,
            pairs=queries * keys,
        )

    def feed_forward(number: int, side: str, tokens: int) -> FeedForwardShape:
        return FeedForwardShape(
            layer=number,
            hidden=hidden,
            neurons=WHISPER.value(config, f"{side}_ffn_dim"),
            tokens=tokens,
            first_bias=True,
            second_bias=True,
        )

    sites: list[AttentionSite] = []
    pairs: list[FeedForwardSite] = []
    stacks = tuple(
        tuple(f"{architecture.prefix}{side}.layers.{layer}" for layer in range(count)) for side, count in counts.items()
    )
    for number, layer in enumerate(stacks[0]):
        sites.append(_attention(layer, "self_attn", attention(number, "encoder", source, source), AttentionKind.SELF))
        pairs.append(_feed_forward(layer, feed_forward(number, "encoder", source)))
    for number, layer in enumerate((layer for stack in stacks[1:] for layer in stack), start=counts["encoder"]):
        for name, keys in (("self_attn", target), ("encoder_attn", source)):
            sites.append(_attention(layer, name, attention(number, "decoder", target, keys), AttentionKind.CACHED))
        pairs.append(_feed_forward(layer, feed_forward(number, "decoder", target)))
    # Two convolutions, the first at two frames a position, and the logits of words or labels.
    frames = CONVOLUTION * hidden * (2 * WHISPER.value(config, "num_mel_bins") + hidden) * source
    if architecture.head is Head.CLASSIFICATION:
        answered = _projected(config) * (source * hidden + label_count(config))
    else:
        answered = hidden * WHISPER.value(config, "vocab_size") * target
    return Layout(
        attention=tuple(sites),
        feed_forward=tuple(pairs),
        stacks=stacks,
        other_flops=2 * (frames + answered),
    )


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    hidden, mels = WHISPER.value(config, "d_model"), WHISPER.value(config, "num_mel_bins")
    encoder, decoder = (f"{architecture.prefix}{side}" for side in ("encoder", "decoder"))
    shapes: Shapes = {
        f"{encoder}.conv1.weight": (hidden, mels, CONVOLUTION),
        f"{encoder}.conv1.bias": (hidden,),
        f"{encoder}.conv2.weight": (hidden, hidden, CONVOLUTION),
        f"{encoder}.conv2.bias": (hidden,),
        f"{encoder}.embed_positions.weight": (WHISPER.value(config, "max_source_positions"), hidden),
        **norm(f"{encoder}.layer_norm", hidden),
    }
    layers = WHISPER.value(config, "encoder_layers")
    shapes |= _norms(encoder, layers, ("self_attn",), hidden)
    if architecture.head is Head.CLASSIFICATION:
        width = _projected(config)
        if config.get("use_weighted_layer_sum"):
            shapes["layer_weights"] = (layers + 1,)
        return shapes | linear("projector", width, hidden) | linear("classifier", labels, width)
    words = WHISPER.value(config, "vocab_size")
    shapes |= {
        f"{decoder}.embed_positions.weight": (WHISPER.value(config, "max_target_positions"), hidden),
        f"{decoder}.embed_tokens.weight": (words, hidden),
        **norm(f"{decoder}.layer_norm", hidden),
    }
    if config.get("tie_word_embeddings", True) is False:
        shapes["proj_out.weight"] = (words, hidden)
    return shapes | _norms(decoder, WHISPER.value(config, "decoder_layers"), ("self_attn", "encoder_attn"), hidden)


def _norms(side: str, layers: int, attentions: tuple[str, ...], hidden: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(layers):
        for name in (*(f"{attention}_layer_norm" for attention in attentions), "final_layer_norm"):
            shapes |= norm(f"{side}.layers.{layer}.{name}", hidden)
    return shapes


def _padding(_config: Config, architecture: Architecture) -> Padding | None:
    """A decoder does not look ahead: what stands behind a text reaches none of its tokens. An encoder's input has one length."""
    if architecture.head is Head.CLASSIFICATION:
        return None
    return Padding({"decoder_input_ids": 0.0}, "decoder_attention_mask", DECODER_TOKENS)


WHISPER = Family(
    name="whisper",
    model_types=("whisper",),
    modality=Modality.AUDIO,
    architectures={
        "WhisperForConditionalGeneration": Architecture(
            task="automatic-speech-recognition",
            head=Head.SEQUENCE_TO_SEQUENCE,
            auto_class="AutoModelForSpeechSeq2Seq",
            prefix="model.",
            tied={"proj_out.weight": "model.decoder.embed_tokens.weight"},
        ),
        "WhisperForAudioClassification": Architecture(
            task="audio-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForAudioClassification",
            classifiers=("projector", "classifier"),
        ),
    },
    layout=_layout,
    padding_row=True,
    # What it has is all there but the head, which is tied.
    ways={"WhisperModel": "WhisperForConditionalGeneration"},
    defaults={
        "d_model": 384,
        "encoder_layers": 4,
        "decoder_layers": 4,
        "encoder_attention_heads": 6,
        "decoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "decoder_ffn_dim": 1536,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "vocab_size": 51865,
    },
    config_fields=CONFIG_KEYS,
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
        "num_key_value_heads": "encoder_attention_heads",
    },
    # A tokenizer as well, where it writes: `check_tokenizer` of an upload asks for its files.
    required_files=REQUIRED_FILES,
    optional_files=(*OTHER_FILES, GENERATION, SPELLINGS),
    preprocessors=("WhisperFeatureExtractor",),
    other_tensors=_other_tensors,
    padding=_padding,
    # As for the other encoders of speech: no masks that no seed sets, and the whole model.
    while_engaged={"apply_spec_augment": False, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
)
