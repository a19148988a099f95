"""Every tensor outside the blocks of waveform transformers: names in the module tree of transformers 5, and shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api_schemas.enums import Head
from checkpoints.families.base import Architecture, Config
from checkpoints.families.tensor_shapes import Shapes, linear, norm

Value = Callable[[str], Any]
Own = Callable[[Value, str], Shapes]
"""Tensors that a family has beside those of all, given its values and the prefix of its encoder."""


def waveform_tensors(
    config: Config,
    architecture: Architecture,
    labels: int,
    *,
    defaults: Mapping[str, Any],
    own: Own,
    norms: Sequence[str] = ("layer_norm", "final_layer_norm"),
) -> Shapes:
    """What all of them have: convolutions before, norms of the layers, the head.

    own: what lies between, and of one family.
    norms: names in every layer of those that all layers of these families have.
    """

    def value(key: str) -> Any:
        found = config.get(key)
        return defaults[key] if found is None else found

    prefix, hidden = architecture.prefix, value("hidden_size")
    shapes = {**_convolutions(value, f"{prefix}feature_extractor.conv_layers"), **own(value, prefix)}
    layers = [f"{prefix}encoder.layers.{layer}" for layer in range(value("num_hidden_layers"))]
    shapes |= norm(f"{prefix}encoder.layer_norm", hidden)
    for layer in layers:
        for name in norms:
            shapes |= norm(f"{layer}.{name}", hidden)
    return shapes | head_tensors(config, architecture, labels, value)


def head_tensors(config: Config, architecture: Architecture, labels: int, value: Value) -> Shapes:
    """What stands for hidden frames, and the head."""
    hidden = value("hidden_size")
    shapes: Shapes = {}
    # As transformers asks: without masks there is nothing that stands for what they hide.
    if any(config.get(key, default) for key, default in (("mask_time_prob", 0.05), ("mask_feature_prob", 0.0))):
        shapes[f"{architecture.prefix}masked_spec_embed"] = (hidden,)
    if architecture.head is Head.CTC:
        return shapes | linear("lm_head", value("vocab_size"), hidden)
    if architecture.head is Head.HIDDEN_STATES:
        return shapes
    if value("use_weighted_layer_sum"):
        shapes["layer_weights"] = (value("num_hidden_layers") + 1,)
    width = value("classifier_proj_size")
    return shapes | linear("projector", width, hidden) | linear("classifier", labels, width)


def _convolutions(value: Value, at: str) -> Shapes:
    shapes: Shapes = {}
    dims = (1, *value("conv_dim"))
    for number, (kernel, inner, outer) in enumerate(zip(value("conv_kernel"), dims[:-1], dims[1:], strict=True)):
        shapes[f"{at}.{number}.conv.weight"] = (outer, inner, kernel)
        if value("conv_bias"):
            shapes[f"{at}.{number}.conv.bias"] = (outer,)
        # A group norm over the first, or a norm each.
        if number == 0 or value("feat_extract_norm") == "layer":
            shapes |= norm(f"{at}.{number}.layer_norm", outer)
    return shapes


def projected(value: Value, prefix: str) -> Shapes:
    """Of most: a norm, and a map to the hidden size."""
    return projection(value, prefix, value("conv_dim")[-1])


def projection(value: Value, prefix: str, width: int) -> Shapes:
    """The same of frames of that width."""
    at = f"{prefix}feature_projection"
    return norm(f"{at}.layer_norm", width) | linear(f"{at}.projection", value("hidden_size"), width)


def positions(value: Value, prefix: str) -> Shapes:
    """One convolution, whose weight is stored as lengths and directions."""
    at, hidden, kernel = f"{prefix}encoder.pos_conv_embed.conv", value("hidden_size"), value("num_conv_pos_embeddings")
    return {
        f"{at}.bias": (hidden,),
        f"{at}.parametrizations.weight.original0": (1, 1, kernel),
        f"{at}.parametrizations.weight.original1": (hidden, hidden // value("num_conv_pos_embedding_groups"), kernel),
    }
