"""What determines a checkpoint's cost: the shapes of its attentions and feed-forward blocks, and the rest of the model."""

from collections import Counter
from collections.abc import Sequence

from api_schemas.base import FrozenModel
from api_schemas.enums import Side
from api_schemas.results.widths import AttentionWidths, LayerWidths


class AttentionShape(FrozenModel):
    """One attention of the original model."""

    layer: int
    """Number of the transformer layer it belongs to; a decoder layer has two."""
    heads: int
    """Of keys and values; of queries as well, but where `queries_per_head` says that more of them share each."""
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
    queries_per_head: int = 1
    """Heads of queries for each of keys and values (grouped queries). One after another, those of a head are its rows of W_q and
    its columns of W_o: every channel of the head has one of each in every query."""
    rotary: int = 0
    """QK channels of a head, its first ones, that positions rotate in pairs: channel i with channel i + rotary / 2."""
    qk_whole: bool = False
    """QK channels go only with their head: norms of its queries and keys, or relative positions, need all of them."""

    @property
    def whole(self) -> LayerWidths:
        """The widths before anything is cut."""
        widths = (self.head_dim,) * self.heads
        pairs = (tuple(range(self.rotary // 2)),) * self.heads if self.rotary else ()
        return LayerWidths(qk=widths, vo=widths, rotary=pairs, qk_whole=self.qk_whole)


def whole_widths(blocks: Sequence[AttentionShape]) -> tuple[LayerWidths, ...]:
    """`whole` of each, made once for identical layers: an untrusted config may declare a thousand layers with many heads."""
    made: dict[tuple[int, int, int, bool], LayerWidths] = {}
    found = []
    for block in blocks:
        key = block.heads, block.head_dim, block.rotary, block.qk_whole
        if key not in made:
            made[key] = block.whole
        found.append(made[key])
    return tuple(found)


class FeedForwardShape(FrozenModel):
    """One feed-forward block of the original model: two linear maps with an activation between.

    Where it is gated, what comes out of the activation is multiplied by the output of a third map, as wide as the first.
    """

    layer: int
    hidden: int
    neurons: int
    tokens: int
    first_bias: bool
    """Of the third map as well, where there is one."""
    second_bias: bool
    gated: bool = False


class ModelShape(FrozenModel):
    """What of a checkpoint, beside its widths, decides its cost. Read from config and safetensors header."""

    attention: tuple[AttentionShape, ...]
    feed_forward: tuple[FeedForwardShape, ...]
    other_parameters: int
    """Everything outside attention and feed-forward blocks, and not `head_parameters` of a head either."""
    copied_parameters: int = 0
    """Of a model that is worked on in part, those outside of the part: in its files, and never in memory."""
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
        return AttentionWidths(
            head_dim=self.attention[0].head_dim,
            layers=whole_widths(self.attention),
            feed_forward=tuple(block.neurons for block in self.feed_forward),
        )

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return 1 + max(block.layer for block in self.attention)

    def layers_of(self, side: Side) -> frozenset[int]:
        """Numbers of the layers of the encoder or of the decoder; empty where the model is one stack, and no other attends to it.

        A decoder's layers attend twice: to the text so far and to what the encoder has heard. Where a part is worked on,
        that part is the encoder.
        """
        attentions = Counter(block.layer for block in self.attention)
        decoder = frozenset(layer for layer, count in attentions.items() if count > 1)
        if side is Side.DECODER:
            return decoder
        return frozenset(attentions) - decoder if decoder or self.copied_parameters else frozenset()
