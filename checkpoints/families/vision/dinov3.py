"""DINOv3 (Siméoni et al., arXiv 2508.10104), as transformers implements it: a ViT with rotary positions for its patches.

Only q and k of patches are rotated, by both axes; the class token and registers before them are not.
"""

import math
from dataclasses import replace

from api_schemas.enums import Head, Modality
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    FeedForwardSite,
    Layout,
    UnusableConfigError,
)
from checkpoints.families.config_fields import DINOV3 as CONFIG_FIELDS
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.patch_encoder import FRACTIONS, UNREAD, processors
from checkpoints.families.tensor_shapes import Shapes, norm
from checkpoints.families.vision.dinov2 import SIDE, check_stages
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR

LARGEST = 640
"""Pixels of the longest side that is read: 1,600 patches of the usual size."""


def _names(*, gated: bool) -> EncoderNames:
    return EncoderNames(
        layer="model.layer.{layer}",
        attention="attention",
        q="attention.q_proj",
        k="attention.k_proj",
        v="attention.v_proj",
        o="attention.o_proj",
        first="mlp.gate_proj" if gated else "mlp.up_proj",
        second="mlp.down_proj",
        attention_stream="norm1",
        feed_forward_stream="norm2",
    )


def _head_dim(config: Config) -> int:
    """Two axes have pairs of their own: heads are a multiple of 4 wide."""
    key = "num_attention_heads"
    width = head_width(config["hidden_size"], config[key], key)
    # So many wavelengths the class makes of a width: of a few, 196 among them, one too many in floating point.
    if 4 * math.ceil(1 / (4 / width)) != width:
        raise UnusableConfigError(
            key,
            f"heads are {width} wide, but transformers' positions of rows and columns fit only multiples of 4: all up to 192, "
            "of larger ones some",
        )
    return width


def _patches(config: Config) -> int:
    """Of an image of the config's size, or of sides of SIDE pixels where that is larger."""
    for key in ("image_size", "patch_size"):
        if not isinstance(config[key], int):
            raise UnusableConfigError(key, "must be one number: transformers 5.10 reads no other")
    side, patch = min(config["image_size"], SIDE), config["patch_size"]
    if patch > side:
        raise UnusableConfigError("patch_size", "a patch is larger than the image")
    count: int = (side // patch) ** 2
    return count


def _layout(config: Config, architecture: Architecture) -> Layout:
    del architecture
    full = DINOV3.filled(config)
    check_stages(config, full["num_hidden_layers"])
    hidden, patches, head_dim = full["hidden_size"], _patches(full), _head_dim(full)
    sizes = EncoderSizes(
        layers=full["num_hidden_layers"],
        hidden=hidden,
        heads=full["num_attention_heads"],
        head_dim=head_dim,
        neurons=full["intermediate_size"],
        tokens=1 + full["num_register_tokens"] + patches,
    )
    products = hidden * patches * full["num_channels"] * full["patch_size"] ** 2
    gated = full["use_gated_mlp"]
    layout = encoder(sizes, _names(gated=gated), 2 * products, AttentionKind.ROTARY)
    biases = {f"{side}_bias": full[f"{name}_bias"] for side, name in _SIDES.items()}

    def attention(site: AttentionSite) -> AttentionSite:
        return replace(site, stream=None, shape=site.shape.model_copy(update={**biases, "rotary": head_dim}))

    def feed_forward(pair: FeedForwardSite) -> FeedForwardSite:
        bias = full["mlp_bias"]
        shape = pair.shape.model_copy(update={"gated": gated, "first_bias": bias, "second_bias": bias})
        up = pair.first.replace("gate_proj", "up_proj") if gated else None
        return replace(pair, stream=None, shape=shape, up=up)

    # What a block puts out is scaled before it is added: it cannot be fitted to what is missing in the stream.
    return replace(
        layout,
        attention=tuple(map(attention, layout.attention)),
        feed_forward=tuple(map(feed_forward, layout.feed_forward)),
    )


_SIDES = {"q": "query", "k": "key", "v": "value", "o": "proj"}
"""What the config calls the sides of an attention."""


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del architecture, labels
    full = DINOV3.filled(config)
    hidden, patch = full["hidden_size"], full["patch_size"]
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, hidden),
        "embeddings.mask_token": (1, 1, hidden),
        "embeddings.register_tokens": (1, full["num_register_tokens"], hidden),
        "embeddings.patch_embeddings.weight": (hidden, full["num_channels"], patch, patch),
        "embeddings.patch_embeddings.bias": (hidden,),
        **norm("norm", hidden),
    }
    for layer in range(full["num_hidden_layers"]):
        path = f"model.layer.{layer}"
        shapes |= norm(f"{path}.norm1", hidden) | norm(f"{path}.norm2", hidden)
        shapes |= {f"{path}.layer_scale{number}.lambda1": (hidden,) for number in (1, 2)}
    return shapes


DINOV3 = Family(
    name="dinov3",
    model_types=("dinov3_vit",),
    modality=Modality.IMAGE,
    architectures={
        "DINOv3ViTModel": Architecture(
            task="image-feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel", dispensable=UNREAD
        ),
    },
    layout=_layout,
    defaults={
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "num_register_tokens": 0,
        "use_gated_mlp": False,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
    },
    config_fields=CONFIG_FIELDS,
    required_files=("config.json", (PREPROCESSOR, PROCESSOR)),
    optional_files=("README.md",),
    preprocessors=(*FRACTIONS, *processors("ViT", "Bit")),
    # As what was published has them, and transformers when it saves.
    saved_names=((), ((r"^model\.layer\.", "layer."),)),
    other_tensors=_other_tensors,
    largest_side=LARGEST,
    neurons_key="intermediate_size",
    # In training the class moves and scales positions by a generator that no seed of a job sets.
    while_engaged=dict.fromkeys(("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")),
)
