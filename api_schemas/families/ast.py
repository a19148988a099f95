"""Audio Spectrogram Transformer (Gong et al., arXiv 2104.01778), as transformers implements it."""

from typing import Any

from api_schemas.families.base import Config, Family, FileNames

_DEFAULTS: dict[str, Any] = {
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
}


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _patches(config: Config) -> int:
    def get(key: str) -> Any:
        return config.get(key, _DEFAULTS[key])

    height, width = _pair(get("patch_size"))
    frequency = (get("num_mel_bins") - height) // get("frequency_stride") + 1
    time = (get("max_length") - width) // get("time_stride") + 1
    if frequency < 1 or time < 1:
        raise ValueError("a patch is larger than the input")
    return int(frequency * time)


def _tokens(config: Config) -> int:
    """Patches, the class token and the distillation token."""
    return _patches(config) + 2


def _other_flops(config: Config) -> int:
    def get(key: str) -> Any:
        return config.get(key, _DEFAULTS[key])

    height, width = _pair(get("patch_size"))
    embed = 2 * _patches(config) * height * width * get("hidden_size")
    feed_forward = 4 * _tokens(config) * get("hidden_size") * get("intermediate_size") * get("num_hidden_layers")
    classes = len(config.get("id2label") or {}) or config.get("num_labels", 2)
    return int(embed + feed_forward + 2 * get("hidden_size") * classes)


def _other_tensors(config: Config, labels: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    def get(key: str) -> Any:
        return config.get(key, _DEFAULTS[key])

    hidden, inner, patch = get("hidden_size"), get("intermediate_size"), get("patch_size")
    root, tree, old = "audio_spectrogram_transformer", "layers.{}", "encoder.layer.{}"
    shapes: dict[tuple[str, ...], tuple[int, ...]] = {
        (f"{root}.embeddings.cls_token",): (1, 1, hidden),
        (f"{root}.embeddings.distillation_token",): (1, 1, hidden),
        (f"{root}.embeddings.position_embeddings",): (1, _tokens(config), hidden),
        (f"{root}.embeddings.patch_embeddings.projection.weight",): (hidden, 1, *_pair(patch)),
        (f"{root}.embeddings.patch_embeddings.projection.bias",): (hidden,),
        (f"{root}.layernorm.weight",): (hidden,),
        (f"{root}.layernorm.bias",): (hidden,),
        ("classifier.layernorm.weight",): (hidden,),
        ("classifier.layernorm.bias",): (hidden,),
        ("classifier.dense.weight",): (labels, hidden),
        ("classifier.dense.bias",): (labels,),
    }
    for layer in range(get("num_hidden_layers")):
        for new_name, old_name, weight in (
            ("layernorm_before", "layernorm_before", (hidden,)),
            ("layernorm_after", "layernorm_after", (hidden,)),
            ("mlp.fc1", "intermediate.dense", (inner, hidden)),
            ("mlp.fc2", "output.dense", (hidden, inner)),
        ):
            names = (f"{root}.{tree.format(layer)}.{new_name}", f"{root}.{old.format(layer)}.{old_name}")
            shapes[tuple(f"{name}.weight" for name in names)] = weight
            shapes[tuple(f"{name}.bias" for name in names)] = weight[:1]
    return shapes


AST = Family(
    name="ast",
    model_types=("audio-spectrogram-transformer",),
    architectures={"ASTForAudioClassification": "audio-classification"},
    layer_modules="audio_spectrogram_transformer.layers.{layer}",
    feed_forward_outputs="audio_spectrogram_transformer.layers.{layer}.mlp.fc2",
    attention_modules="audio_spectrogram_transformer.layers.{layer}.attention",
    projections={"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"},
    file_names=(
        FileNames(*(f"audio_spectrogram_transformer.layers.{{layer}}.attention.{p}_proj" for p in "qkvo")),
        FileNames(
            *(
                f"audio_spectrogram_transformer.encoder.layer.{{layer}}.attention.{p}"
                for p in ("attention.query", "attention.key", "attention.value", "output.dense")
            )
        ),
    ),
    classifier_modules=("classifier",),
    heads_key="num_attention_heads",
    layers_key="num_hidden_layers",
    hidden_key="hidden_size",
    head_dim_key="head_dim",
    bias_key="qkv_bias",
    tokens=_tokens,
    other_flops=_other_flops,
    required_files=("config.json", "preprocessor_config.json"),
    optional_files=("README.md",),
    feature_extractors=("ASTFeatureExtractor",),
    preprocessor_keys=("max_length", "num_mel_bins"),
    defaults=_DEFAULTS,
    other_tensors=_other_tensors,
)
