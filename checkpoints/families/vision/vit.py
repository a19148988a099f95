"""ViT (Dosovitskiy et al., arXiv 2010.11929) and DeiT (Touvron et al., arXiv 2012.12877), as transformers implements them."""

from functools import partial

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import PATCHES
from checkpoints.families.encoder import EncoderSizes, encoder, head_width, label_count
from checkpoints.families.patch_encoder import OLD_NAMES, UNREAD, names, norms, pair, processors
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
}


def _patches(config: Config) -> int:
    (height, width), (rows, columns) = (pair(VIT.value(config, key)) for key in ("image_size", "patch_size"))
    if rows > height or columns > width:
        raise UnusableConfigError("patch_size", "a patch is larger than the image")
    return (height // rows) * (width // columns)


def _tokens(config: Config, *, distilled: bool) -> int:
    """Patches and the class token; DeiT's distillation token, too."""
    return _patches(config) + (2 if distilled else 1)


def _pooled(config: Config) -> int:
    """Width of what the plain encoder's pooler makes of the class token."""
    return int(config.get("pooler_output_size") or VIT.value(config, "hidden_size"))


def _layout(config: Config, architecture: Architecture, *, distilled: bool) -> Layout:
    rows, columns = pair(VIT.value(config, "patch_size"))
    hidden, heads = VIT.value(config, "hidden_size"), VIT.value(config, "num_attention_heads")
    sizes = EncoderSizes(
        layers=VIT.value(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=config.get("head_dim") or head_width(hidden, heads, "num_attention_heads"),
        neurons=VIT.value(config, "intermediate_size"),
        tokens=_tokens(config, distilled=distilled),
        qkv_bias=VIT.value(config, "qkv_bias"),
    )
    embedded = _patches(config) * VIT.value(config, "num_channels") * rows * columns
    # The plain encoder's pooler maps the class token.
    pooled = _pooled(config) if architecture.head is Head.HIDDEN_STATES else 0
    answered = len(architecture.classifiers) * label_count(config) + pooled
    return encoder(sizes, names(architecture.prefix), 2 * hidden * (embedded + answered))


def _other_tensors(
    config: Config, architecture: Architecture, labels: int, *, distilled: bool
) -> dict[str, tuple[int, ...]]:
    hidden, at = VIT.value(config, "hidden_size"), f"{architecture.prefix}embeddings"
    patch = pair(VIT.value(config, "patch_size"))
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}.cls_token": (1, 1, hidden),
        f"{at}.position_embeddings": (1, _tokens(config, distilled=distilled), hidden),
        f"{at}.patch_embeddings.projection.weight": (hidden, VIT.value(config, "num_channels"), *patch),
        f"{at}.patch_embeddings.projection.bias": (hidden,),
    }
    if distilled:
        shapes[f"{at}.distillation_token"] = (1, 1, hidden)
    for name in architecture.classifiers:
        shapes |= {f"{name}.weight": (labels, hidden), f"{name}.bias": (labels,)}
    if architecture.head is Head.HIDDEN_STATES:
        shapes |= {"pooler.dense.weight": (_pooled(config), hidden), "pooler.dense.bias": (_pooled(config),)}
    return shapes | norms(architecture.prefix, VIT.value(config, "num_hidden_layers"), hidden)


def _classifier(prefix: str, *modules: str) -> Architecture:
    return Architecture(
        task="image-classification",
        head=Head.CLASSIFICATION,
        auto_class="AutoModelForImageClassification",
        classifiers=modules,
        prefix=prefix,
        dispensable=UNREAD,
    )


def _family(name: str, architectures: dict[str, Architecture], *lines: str, distilled: bool) -> Family:
    return Family(
        name=name,
        model_types=(name,),
        modality=Modality.IMAGE,
        architectures=architectures,
        layout=partial(_layout, distilled=distilled),
        defaults=DEFAULTS,
        config_fields=PATCHES,
        required_files=("config.json", (PREPROCESSOR, PROCESSOR)),
        optional_files=("README.md",),
        # Either reads images for either: DeiT without distillation is published as a ViT. The family's own first.
        preprocessors=processors(*lines),
        saved_names=((), OLD_NAMES),
        other_tensors=partial(_other_tensors, distilled=distilled),
        heads_key="num_attention_heads",
        head_dim_key="head_dim",
        neurons_key="intermediate_size",
    )


_ENCODER = Architecture(
    task="image-feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel", dispensable=UNREAD
)
VIT = _family(
    "vit",
    {"ViTForImageClassification": _classifier("vit.", "classifier"), "ViTModel": _ENCODER},
    "ViT",
    "DeiT",
    distilled=False,
)
DEIT = _family(
    "deit",
    {
        "DeiTForImageClassification": _classifier("deit.", "classifier"),
        "DeiTForImageClassificationWithTeacher": _classifier("deit.", "cls_classifier", "distillation_classifier"),
        "DeiTModel": _ENCODER,
    },
    "DeiT",
    "ViT",
    distilled=True,
)
