"""Widths in, parameters, FLOPs and bytes out. The only place that turns one into the other.

A FLOP is one multiplication or one addition: a product of (m×k) and (k×n) matrices costs 2·m·k·n. Softmax, normalisation,
activations and additions of biases are left out, as is usual; they are well under 1% here.
"""

from api_schemas.base import Output
from api_schemas.widths import AttentionWidths, LayerWidths


class ModelShape(Output):
    """What of a checkpoint, beside its attention widths, decides its cost. Read from config and safetensors header."""

    hidden_size: int
    tokens: int
    """Sequence length of one input, special tokens included."""
    qkv_bias: bool
    output_bias: bool
    attention_parameters: int
    """q, k, v, o of the original model: weights and biases."""
    other_parameters: int
    other_flops: int
    """Everything outside attention (patches, feed-forward, classifier), one input."""
    bytes_per_parameter: int


def qk_channel_parameters(shape: ModelShape) -> int:
    """One QK channel: a row of W_q and one of W_k, with their biases."""
    return 2 * (shape.hidden_size + shape.qkv_bias)


def vo_channel_parameters(shape: ModelShape) -> int:
    """One VO channel: a row of W_v with its bias and a column of W_o."""
    return 2 * shape.hidden_size + shape.qkv_bias


def original_channels(shape: ModelShape, layers: int) -> int:
    """QK channels, and as many VO channels, of one of the original's equally wide layers."""
    per_layer = shape.attention_parameters // layers - shape.hidden_size * shape.output_bias
    return per_layer // (qk_channel_parameters(shape) + vo_channel_parameters(shape))


def channel_flops(shape: ModelShape) -> int:
    """One channel of either kind, for one input: 4·T·D in its two projections and 2·T² between them."""
    return 4 * shape.tokens * shape.hidden_size + 2 * shape.tokens**2


def layer_parameters(shape: ModelShape, layer: LayerWidths) -> int:
    """q, k, v, o of one layer; b_o is never removed."""
    channels = layer.qk_total * qk_channel_parameters(shape) + layer.vo_total * vo_channel_parameters(shape)
    return channels + shape.hidden_size * shape.output_bias


def attention_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """q, k, v, o of all layers: weights and biases."""
    return sum(layer_parameters(shape, layer) for layer in widths.layers)


def attention_sparsity(shape: ModelShape, widths: AttentionWidths) -> float:
    """Share of the original model's attention parameters that is gone, in [0, 1)."""
    return 1.0 - attention_parameters(shape, widths) / shape.attention_parameters


def total_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """All parameters of the checkpoint."""
    return shape.other_parameters + attention_parameters(shape, widths)


def attention_flops(shape: ModelShape, widths: AttentionWidths) -> int:
    """Projections, scores and mixing of all layers for one input."""
    return sum(layer.qk_total + layer.vo_total for layer in widths.layers) * channel_flops(shape)


def total_flops(shape: ModelShape, widths: AttentionWidths) -> int:
    """One forward pass of one input."""
    return shape.other_flops + attention_flops(shape, widths)


def weight_bytes(shape: ModelShape, widths: AttentionWidths) -> int:
    """Bytes of all tensors at their stored dtype; the file adds a header of some kilobytes."""
    return total_parameters(shape, widths) * shape.bytes_per_parameter
