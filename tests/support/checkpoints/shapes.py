"""Shapes of models for tests that count."""

from checkpoints.sizes.shape import AttentionShape, ModelShape


def equal_shape(layers: int, heads: int, head_dim: int, hidden: int, tokens: int, **changes: int) -> ModelShape:
    """Layers that are all alike, without feed-forward blocks."""
    attention = tuple(
        AttentionShape(
            layer=layer, heads=heads, head_dim=head_dim, hidden=hidden, source=hidden, q_bias=True, k_bias=True, v_bias=True,
            o_bias=True, queries=tokens, keys=tokens, pairs=tokens**2,
        )
        for layer in range(layers)
    )  # fmt: skip
    values = {"other_parameters": 10_000, "other_flops": 10**6, "bytes_per_parameter": 4, **changes}
    return ModelShape(attention=attention, feed_forward=(), **values)
