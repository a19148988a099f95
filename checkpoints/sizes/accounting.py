"""Widths in, parameters, FLOPs and bytes out. The only place that turns one into the other.

A FLOP is one multiplication or one addition: a product of (m×k) and (k×n) matrices costs 2·m·k·n. Softmax, normalisation,
activations and additions of biases are left out, as is usual; they are well under 1% here.
"""

from api_schemas.results.widths import AttentionWidths, LayerWidths
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape, ModelShape


def qk_channel_parameters(block: AttentionShape) -> int:
    """One QK channel: a row of W_q, in every query of its head, and one of W_k, with their biases."""
    return block.queries_per_head * (block.hidden + block.q_bias) + block.source + block.k_bias


def vo_channel_parameters(block: AttentionShape) -> int:
    """One VO channel: a row of W_v with its bias and a column of W_o, in every query of its head."""
    return block.source + block.v_bias + block.queries_per_head * block.hidden


def neuron_parameters(block: FeedForwardShape) -> int:
    """One neuron: a row of the first map with its bias and a column of the second; of a gated block, a row of the third too."""
    return (2 + block.gated) * block.hidden + (1 + block.gated) * block.first_bias


def channel_flops(block: AttentionShape) -> int:
    """One channel of either kind, for one input: two projections, and its part in every query-key pair."""
    of_queries = block.queries_per_head * (block.queries * block.hidden + block.pairs)
    return 2 * (of_queries + block.keys * block.source)


def neuron_flops(block: FeedForwardShape) -> int:
    """One neuron, for one input: its part in two products, or in three."""
    return 2 * (2 + block.gated) * block.tokens * block.hidden


def layer_parameters(block: AttentionShape, layer: LayerWidths) -> int:
    """q, k, v, o of one attention; b_o is never removed."""
    channels = layer.qk_total * qk_channel_parameters(block) + layer.vo_total * vo_channel_parameters(block)
    return channels + block.hidden * block.o_bias


def attention_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """q, k, v, o of all layers: weights and biases."""
    pairs = zip(shape.attention, widths.layers, strict=True)
    return sum(layer_parameters(block, layer) for block, layer in pairs)


def feed_forward_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """The maps of all feed-forward blocks: weights and biases. The bias of what comes out is never removed."""
    pairs = zip(shape.feed_forward, widths.feed_forward, strict=True)
    return sum(neurons * neuron_parameters(block) + block.hidden * block.second_bias for block, neurons in pairs)


def attention_sparsity(shape: ModelShape, widths: AttentionWidths) -> float:
    """Share of the original model's attention parameters that is gone, in [0, 1)."""
    return 1.0 - attention_parameters(shape, widths) / attention_parameters(shape, shape.dense)


def feed_forward_sparsity(shape: ModelShape, widths: AttentionWidths) -> float:
    """Share of the original model's feed-forward parameters that is gone, in [0, 1). 0 where it has none."""
    whole = feed_forward_parameters(shape, shape.dense)
    return 1.0 - feed_forward_parameters(shape, widths) / whole if whole else 0.0


def total_parameters(shape: ModelShape, widths: AttentionWidths) -> int:
    """All parameters of the checkpoint."""
    pairs = zip(shape.attention, widths.layers, strict=True)
    beside = sum(layer.heads * block.head_parameters for block, layer in pairs)
    blocks = attention_parameters(shape, widths) + feed_forward_parameters(shape, widths)
    return shape.other_parameters + shape.copied_parameters + beside + blocks


def attention_flops(shape: ModelShape, widths: AttentionWidths) -> int:
    """Projections, scores and mixing of all layers for one input."""
    pairs = zip(shape.attention, widths.layers, strict=True)
    return sum(
        (layer.qk_total + layer.vo_total) * channel_flops(block) + layer.heads * block.head_flops
        for block, layer in pairs
    )


def feed_forward_flops(shape: ModelShape, widths: AttentionWidths) -> int:
    """All feed-forward blocks for one input."""
    pairs = zip(shape.feed_forward, widths.feed_forward, strict=True)
    return sum(neurons * neuron_flops(block) for block, neurons in pairs)


def total_flops(shape: ModelShape, widths: AttentionWidths) -> int:
    """One forward pass of one input."""
    return shape.other_flops + attention_flops(shape, widths) + feed_forward_flops(shape, widths)


def weight_bytes(shape: ModelShape, widths: AttentionWidths) -> int:
    """Bytes of all tensors at their stored dtype; the file adds a header of some kilobytes."""
    return total_parameters(shape, widths) * shape.bytes_per_parameter
