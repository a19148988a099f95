"""The image encoders of CLIP (Radford et al., arXiv 2103.00020) and SigLIP (Zhai et al., arXiv 2303.15343), in transformers.

SigLIP pools its tokens with an attention whose query is a learnt probe. That attention is not pruned.
"""

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import CLIP_VISION as CLIP_FIELDS
from checkpoints.families.config_fields import SIGLIP_VISION as SIGLIP_FIELDS
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.patch_encoder import processors
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR


def _names(prefix: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}encoder.layers.{{layer}}",
        attention="self_attn",
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.out_proj",
        first="mlp.fc1",
        second="mlp.fc2",
        attention_stream="layer_norm1",
        feed_forward_stream="layer_norm2",
    )


def _patches(config: Config) -> int:
    for key in ("image_size", "patch_size"):
        if not isinstance(config[key], int):
            raise UnusableConfigError(key, "must be one number: the class reads square images")
    if config["patch_size"] > config["image_size"]:
        raise UnusableConfigError("patch_size", "a patch is larger than the image")
    side: int = config["image_size"] // config["patch_size"]
    return side**2


def _vision_layout(config: Config, architecture: Architecture, special: int, further: int) -> Layout:
    """`special` tokens stand beside those of the patches; `further` products come behind the layers."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = EncoderSizes(
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=config["intermediate_size"],
        tokens=_patches(config) + special,
    )
    embedded = _patches(config) * config["num_channels"] * config["patch_size"] ** 2
    return encoder(sizes, _names(architecture.prefix), 2 * (hidden * embedded + further))


def _vision_tensors(config: Config, prefix: str, positions: int) -> Shapes:
    hidden = config["hidden_size"]
    patch = (config["patch_size"],) * 2
    shapes: Shapes = {
        f"{prefix}embeddings.patch_embedding.weight": (hidden, config["num_channels"], *patch),
        f"{prefix}embeddings.position_embedding.weight": (positions, hidden),
        **norm(f"{prefix}post_layernorm", hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        at = _names(prefix).layer.format(layer=layer)
        shapes |= norm(f"{at}.layer_norm1", hidden) | norm(f"{at}.layer_norm2", hidden)
    return shapes


def _clip_layout(config: Config, architecture: Architecture) -> Layout:
    full = CLIP_VISION.filled(config)
    projected = full["hidden_size"] * full["projection_dim"] if architecture.head is Head.EMBEDDING else 0
    return _vision_layout(full, architecture, 1, projected)


def _clip_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    full, prefix = CLIP_VISION.filled(config), architecture.prefix
    hidden = full["hidden_size"]
    shapes = _vision_tensors(full, prefix, _patches(full) + 1)
    shapes[f"{prefix}embeddings.class_embedding"] = (hidden,)
    shapes |= norm(f"{prefix}pre_layrnorm", hidden)
    if architecture.head is Head.EMBEDDING:
        shapes["visual_projection.weight"] = (full["projection_dim"], hidden)
    return shapes


def _siglip_layout(config: Config, architecture: Architecture) -> Layout:
    full = SIGLIP_VISION.filled(config)
    hidden, tokens = full["hidden_size"], _patches(full)
    pooled = 0
    if full["vision_use_head"]:
        # Queries and output of one token, keys and values of all, and scores and context; then a block of one token.
        pooled = 2 * hidden**2 + 2 * tokens * hidden**2 + 2 * tokens * hidden + 2 * hidden * full["intermediate_size"]
    return _vision_layout(full, architecture, 0, pooled)


def _siglip_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    full, prefix = SIGLIP_VISION.filled(config), architecture.prefix
    hidden, neurons = full["hidden_size"], full["intermediate_size"]
    shapes = _vision_tensors(full, prefix, _patches(full))
    shapes[f"{prefix}embeddings.patch_embedding.bias"] = (hidden,)
    if full["vision_use_head"]:
        at = f"{prefix}head"
        shapes[f"{at}.probe"] = (1, 1, hidden)
        shapes |= {
            f"{at}.attention.in_proj_weight": (3 * hidden, hidden),
            f"{at}.attention.in_proj_bias": (3 * hidden,),
        }
        shapes |= linear(f"{at}.attention.out_proj", hidden, hidden) | norm(f"{at}.layernorm", hidden)
        shapes |= linear(f"{at}.mlp.fc1", neurons, hidden) | linear(f"{at}.mlp.fc2", hidden, neurons)
    return shapes


_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
}
_ENCODER = Architecture(task="image-feature-extraction", head=Head.HIDDEN_STATES, auto_class="AutoModel")
CLIP_VISION = Family(
    name="clip_vision",
    model_types=("clip_vision_model",),
    modality=Modality.IMAGE,
    architectures={
        "CLIPVisionModelWithProjection": Architecture(
            task="image-feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel", prefix="vision_model."
        ),
        "CLIPVisionModel": _ENCODER,
    },
    layout=_clip_layout,
    defaults={**_DEFAULTS, "projection_dim": 512},
    config_fields=CLIP_FIELDS,
    required_files=("config.json", (PREPROCESSOR, PROCESSOR)),
    optional_files=("README.md",),
    preprocessors=processors("CLIP", "ViT", "DeiT"),
    other_tensors=_clip_tensors,
    # No neurons_key: of its model_type transformers' auto class makes the encoder without its projection.
)
SIGLIP_VISION = Family(
    name="siglip_vision",
    model_types=("siglip_vision_model",),
    modality=Modality.IMAGE,
    architectures={"SiglipVisionModel": _ENCODER},
    layout=_siglip_layout,
    defaults={**_DEFAULTS, "patch_size": 16, "vision_use_head": True},
    config_fields=SIGLIP_FIELDS,
    required_files=("config.json", (PREPROCESSOR, PROCESSOR)),
    optional_files=("README.md",),
    preprocessors=processors("Siglip", "ViT", "DeiT"),
    # As part of a whole SigLIP it had a name of its own, and its files have it still.
    saved_names=((), ((r"^", "vision_model."),)),
    other_tensors=_siglip_tensors,
    # No neurons_key: the block that pools tokens has as many neurons as that key says, and keeps them.
)
