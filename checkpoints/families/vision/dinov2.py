"""DINOv2 (Oquab et al., arXiv 2304.07193), as transformers implements it: a ViT that scales what each block adds."""

from dataclasses import replace

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import DINOV2 as CONFIG_FIELDS
from checkpoints.families.encoder import MAX_LAYERS, EncoderNames, EncoderSizes, encoder, head_width, label_count
from checkpoints.families.patch_encoder import UNREAD, pair, processors
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR

LARGEST = 560
"""Pixels of the longest side that is read: 1,600 patches of the usual size."""
SIDE = 224
"""An image may have any size, and positions are stretched to it: costs are those of a square with sides of so many pixels, or of
the size that positions were learnt for, where that is smaller. Published models learnt theirs for 518, and read 224."""


def _names(prefix: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}encoder.layer.{{layer}}",
        attention="attention",
        q="attention.q_proj",
        k="attention.k_proj",
        v="attention.v_proj",
        o="attention.o_proj",
        first="mlp.fc1",
        second="mlp.fc2",
        attention_stream="norm1",
        feed_forward_stream="norm2",
    )


def _patches(config: Config, most: int | None = None) -> int:
    """Of an image of the size that positions were learnt for, or of sides of `most` pixels at most."""
    (height, width), (rows, columns) = (pair(config[key]) for key in ("image_size", "patch_size"))
    for key, square in (("image_size", height == width), ("patch_size", rows == columns)):
        if not square:
            raise UnusableConfigError(
                key, "must be one number, or two equal ones: positions are interpolated as a square"
            )
    side = height if most is None else min(height, most)
    if rows > side:
        raise UnusableConfigError("patch_size", "a patch is larger than the image")
    return (side // rows) ** 2


def _layout(config: Config, architecture: Architecture) -> Layout:
    full = DINOV2.filled(config)
    check_stages(config, full["num_hidden_layers"])
    hidden, heads, patches = full["hidden_size"], full["num_attention_heads"], _patches(full, SIDE)
    rows, columns = pair(full["patch_size"])
    sizes = EncoderSizes(
        layers=full["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        head_dim=config.get("head_dim") or head_width(hidden, heads, "num_attention_heads"),
        neurons=hidden * full["mlp_ratio"],
        tokens=patches + 1,
        qkv_bias=full["qkv_bias"],
    )
    products = hidden * patches * full["num_channels"] * rows * columns
    if architecture.head is Head.CLASSIFICATION:
        products += 2 * hidden * label_count(config)
    layout = encoder(sizes, _names(architecture.prefix), 2 * products)
    # What a block puts out is scaled before it is added: it cannot be fitted to what is missing in the stream.
    return replace(
        layout,
        attention=tuple(replace(site, stream=None) for site in layout.attention),
        feed_forward=tuple(replace(site, stream=None) for site in layout.feed_forward),
    )


def check_stages(config: Config, layers: int) -> None:
    """What a backbone hands out, which no class here is: as the class writes it of itself, or it could not be built."""
    known: dict[str, list[object]] = {
        "stage_names": ["stem", *(f"stage{layer + 1}" for layer in range(min(layers, MAX_LAYERS)))]
    }
    known |= {"out_features": known["stage_names"][-1:], "out_indices": [layers]}
    for key, own in known.items():
        if config.get(key) not in (None, own):
            raise UnusableConfigError(key, f"backbone stages are not used: leave this out, or set it to {own[-1:]}")


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    full, prefix = DINOV2.filled(config), architecture.prefix
    hidden, at = full["hidden_size"], f"{architecture.prefix}embeddings"
    shapes: Shapes = {
        f"{at}.cls_token": (1, 1, hidden),
        f"{at}.position_embeddings": (1, _patches(full) + 1, hidden),
        f"{at}.patch_embeddings.projection.weight": (hidden, full["num_channels"], *pair(full["patch_size"])),
        f"{at}.patch_embeddings.projection.bias": (hidden,),
        **norm(f"{prefix}layernorm", hidden),
    }
    if full["use_mask_token"]:
        shapes[f"{at}.mask_token"] = (1, hidden)
    for layer in range(full["num_hidden_layers"]):
        path = _names(prefix).layer.format(layer=layer)
        shapes |= norm(f"{path}.norm1", hidden) | norm(f"{path}.norm2", hidden)
        shapes |= {f"{path}.layer_scale{number}.lambda1": (hidden,) for number in (1, 2)}
    if architecture.head is Head.CLASSIFICATION:
        # It reads the class token and the mean of the patches.
        shapes |= linear("classifier", labels, 2 * hidden)
    return shapes


DINOV2 = Family(
    name="dinov2",
    model_types=("dinov2",),
    modality=Modality.IMAGE,
    architectures={
        "Dinov2ForImageClassification": Architecture(
            task="image-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForImageClassification",
            classifiers=("classifier",),
            prefix="dinov2.",
            dispensable=UNREAD,
        ),
        "Dinov2Model": Architecture(
            task="image-feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel", dispensable=UNREAD
        ),
    },
    layout=_layout,
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "image_size": 224,
        "patch_size": 14,
        "num_channels": 3,
        "qkv_bias": True,
        "use_mask_token": True,
    },
    config_fields=CONFIG_FIELDS,
    required_files=("config.json", (PREPROCESSOR, PROCESSOR)),
    optional_files=("README.md",),
    preprocessors=processors("Bit", "ViT", "DeiT"),
    # Before transformers 5, and still when it saves.
    saved_names=(
        (),
        (
            (r"attention\.o_proj", "attention.output.dense"),
            (r"attention\.q_proj", "attention.attention.query"),
            (r"attention\.k_proj", "attention.attention.key"),
            (r"attention\.v_proj", "attention.attention.value"),
        ),
    ),
    other_tensors=_other_tensors,
    refused={
        "use_swiglu_ffn": (
            False,
            "gated feed-forward blocks, as in DINOv2-giant, are not supported; the smaller DINOv2 models are",
        ),
    },
    needs="5.18",
    largest_side=LARGEST,
    heads_key="num_attention_heads",
    head_dim_key="head_dim",
    # No neurons_key: its config says neurons in whole multiples of the hidden size.
)
