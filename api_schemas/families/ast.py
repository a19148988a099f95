"""Audio Spectrogram Transformer (Gong et al., arXiv 2104.01778), as transformers implements it."""

from typing import Any

from api_schemas.enums import Head, Modality
from api_schemas.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from api_schemas.families.encoder import EncoderNames, EncoderSizes, encoder, head_width

ROOT = "audio_spectrogram_transformer"
NAMES = EncoderNames(
    layer=f"{ROOT}.layers.{{layer}}",
    attention="attention",
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    o="attention.o_proj",
    first="mlp.fc1",
    second="mlp.fc2",
    attention_stream="layernorm_before",
    feed_forward_stream="layernorm_after",
)
# Before transformers 5, and still when it saves.
OLD_NAMES = (
    (r"\.layers\.(\d+)\.", r".encoder.layer.\1."),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _patches(config: Config) -> int:
    height, width = _pair(AST.value(config, "patch_size"))
    frequency = (AST.value(config, "num_mel_bins") - height) // AST.value(config, "frequency_stride") + 1
    time = (AST.value(config, "max_length") - width) // AST.value(config, "time_stride") + 1
    if frequency < 1 or time < 1:
        raise UnusableConfigError("patch_size", "a patch is larger than the input")
    return int(frequency * time)


def _labels(config: Config) -> int:
    return len(config.get("id2label") or {}) or config.get("num_labels") or 2


def _layout(config: Config, _architecture: Architecture) -> Layout:
    height, width = _pair(AST.value(config, "patch_size"))
    hidden, heads = AST.value(config, "hidden_size"), AST.value(config, "num_attention_heads")
    sizes = EncoderSizes(
        layers=AST.value(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=config.get("head_dim") or head_width(hidden, heads, "num_attention_heads"),
        neurons=AST.value(config, "intermediate_size"),
        # Patches, the class token and the distillation token.
        tokens=_patches(config) + 2,
        qkv_bias=AST.value(config, "qkv_bias"),
    )
    return encoder(sizes, NAMES, 2 * hidden * (_patches(config) * height * width + _labels(config)))


def _other_tensors(config: Config, labels: int) -> dict[str, tuple[int, ...]]:
    hidden, patch = AST.value(config, "hidden_size"), AST.value(config, "patch_size")
    shapes: dict[str, tuple[int, ...]] = {
        f"{ROOT}.embeddings.cls_token": (1, 1, hidden),
        f"{ROOT}.embeddings.distillation_token": (1, 1, hidden),
        f"{ROOT}.embeddings.position_embeddings": (1, _patches(config) + 2, hidden),
        f"{ROOT}.embeddings.patch_embeddings.projection.weight": (hidden, 1, *_pair(patch)),
        f"{ROOT}.embeddings.patch_embeddings.projection.bias": (hidden,),
        "classifier.dense.weight": (labels, hidden),
        "classifier.dense.bias": (labels,),
    }
    norms = [f"{ROOT}.layernorm", "classifier.layernorm"]
    for layer in range(AST.value(config, "num_hidden_layers")):
        norms += [f"{NAMES.layer.format(layer=layer)}.layernorm_{where}" for where in ("before", "after")]
    return shapes | {f"{norm}.{kind}": (hidden,) for norm in norms for kind in ("weight", "bias")}


AST = Family(
    name="ast",
    model_types=("audio-spectrogram-transformer",),
    modality=Modality.AUDIO,
    architectures={
        "ASTForAudioClassification": Architecture(
            task="audio-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForAudioClassification",
            classifiers=("classifier",),
        )
    },
    layout=_layout,
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "patch_size": 16,
        "qkv_bias": True,
        "frequency_stride": 10,
        "time_stride": 10,
        "max_length": 1024,
        "num_mel_bins": 128,
    },
    required_files=("config.json", "preprocessor_config.json"),
    optional_files=("README.md",),
    preprocessors=("ASTFeatureExtractor",),
    preprocessor_keys=("max_length", "num_mel_bins"),
    saved_names=((), OLD_NAMES),
    other_tensors=_other_tensors,
    heads_key="num_attention_heads",
    head_dim_key="head_dim",
)
