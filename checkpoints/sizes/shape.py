"""What of a checkpoint decides its cost: the shapes of its attentions and feed-forward blocks, and what lies outside them."""

from api_schemas.base import FrozenModel
from api_schemas.results.widths import AttentionWidths


class AttentionShape(FrozenModel):
    """One attention of the original model."""

    layer: int
    """Number of the transformer layer it belongs to; a decoder layer has two."""
    heads: int
    head_dim: int
    hidden: int
    """Inputs of W_q and outputs of W_o."""
    source: int
    """Inputs of W_k and W_v: the same, but where the keys come from another stream."""
    q_bias: bool
    k_bias: bool
    v_bias: bool
    o_bias: bool
    queries: int
    """Tokens that pass through W_q and W_o, for one input."""
    keys: int
    """Tokens that pass through W_k and W_v."""
    pairs: int
    """Query-key pairs that are compared: queries · keys, fewer where attention is windowed."""
    head_parameters: int = 0
    """Parameters that go with a head whatever its widths: a table of relative positions."""
    head_flops: int = 0
    """FLOPs that go with a head whatever its widths, for one input."""


class FeedForwardShape(FrozenModel):
    """One feed-forward block of the original model: two linear maps with an activation between."""

    layer: int
    hidden: int
    neurons: int
    tokens: int
    first_bias: bool
    second_bias: bool


class ModelShape(FrozenModel):
    """What of a checkpoint, beside its widths, decides its cost. Read from config and safetensors header."""

    attention: tuple[AttentionShape, ...]
    feed_forward: tuple[FeedForwardShape, ...]
    other_parameters: int
    """Everything outside attention and feed-forward blocks, and not `head_parameters` of a head either."""
    other_flops: int
    """The same (patches, classifier), one input."""
    bytes_per_parameter: int
    pruned: AttentionWidths | None = None
    """Of an original that was pruned before and says its widths itself: those. The blocks above are as they once were."""

    @property
    def dense(self) -> AttentionWidths:
        """The original's widths."""
        return self.unpruned if self.pruned is None else self.pruned

    @property
    def unpruned(self) -> AttentionWidths:
        """The widths that the blocks have in a stock class."""
        return AttentionWidths.of(
            self.attention[0].head_dim,
            (((block.head_dim,) * block.heads,) * 2 for block in self.attention),
            tuple(block.neurons for block in self.feed_forward),
        )

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return 1 + max(block.layer for block in self.attention)
