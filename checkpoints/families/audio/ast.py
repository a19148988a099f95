"""Audio Spectrogram Transformer (Gong et al., arXiv 2104.01778), as transformers implements it."""

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import PATCHES
from checkpoints.families.encoder import EncoderSizes, encoder, head_width, label_count
from checkpoints.families.patch_encoder import OLD_NAMES, names, norms, pair


def _patches(config: Config) -> int:
    height, width = pair(AST.value(config, "patch_size"))
    frequency = (AST.value(config, "num_mel_bins") - height) // AST.value(config, "frequency_stride") + 1
    time = (AST.value(config, "max_length") - width) // AST.value(config, "time_stride") + 1
    if frequency < 1 or time < 1:
        raise UnusableConfigError("patch_size", "a patch is larger than the input")
    return int(frequency * time)


def _layout(config: Config, architecture: Architecture) -> Layout:
    height, width = pair(AST.value(config, "patch_size"))
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
    labels = label_count(config) if architecture.classifiers else 0
    other_flops = 2 * hidden * (_patches(config) * height * width + labels)
    return encoder(sizes, names(architecture.prefix), other_flops)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> dict[str, tuple[int, ...]]:
    hidden, at = AST.value(config, "hidden_size"), f"{architecture.prefix}embeddings"
    classifier: dict[str, tuple[int, ...]] = (
        {"classifier.dense.weight": (labels, hidden), "classifier.dense.bias": (labels,)}
        if architecture.classifiers
        else {}
    )
    last = ["classifier.layernorm"] if architecture.classifiers else []
    return {
        f"{at}.cls_token": (1, 1, hidden),
        f"{at}.distillation_token": (1, 1, hidden),
        f"{at}.position_embeddings": (1, _patches(config) + 2, hidden),
        f"{at}.patch_embeddings.projection.weight": (hidden, 1, *pair(AST.value(config, "patch_size"))),
        f"{at}.patch_embeddings.projection.bias": (hidden,),
        **classifier,
        **norms(architecture.prefix, AST.value(config, "num_hidden_layers"), hidden, last),
    }


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
            prefix="audio_spectrogram_transformer.",
        ),
        "ASTModel": Architecture(task="feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel"),
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
    config_fields=PATCHES,
    required_files=("config.json", "preprocessor_config.json"),
    optional_files=("README.md",),
    preprocessors=("ASTFeatureExtractor",),
    preprocessor_fields=("max_length", "num_mel_bins"),
    saved_names=((), OLD_NAMES),
    other_tensors=_other_tensors,
    heads_key="num_attention_heads",
    head_dim_key="head_dim",
    neurons_key="intermediate_size",
)
