"""How wide every attention head is: the one record of what was cut, from the safetensors header to the report."""

from collections.abc import Iterable
from typing import Self

from pydantic import model_validator

from api_schemas.base import Output


class LayerWidths(Output):
    """One layer: `qk[h]` and `vo[h]` are the channels that head h keeps in its query/key and value/output pair.

    Heads may differ in width, and a layer may have none: then its attention says b_o to every token, and both lists are empty.
    """

    qk: tuple[int, ...]
    vo: tuple[int, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.qk) != len(self.vo):
            raise ValueError("a head has both a QK and a VO width: the lists must be equally long")
        if any(width < 1 for width in (*self.qk, *self.vo)):
            raise ValueError("a head that is kept has at least one QK and one VO channel")
        return self

    @property
    def heads(self) -> int:
        return len(self.qk)

    @property
    def qk_total(self) -> int:
        return sum(self.qk)

    @property
    def vo_total(self) -> int:
        return sum(self.vo)

    @property
    def uniform(self) -> bool:
        """True where every head of the layer has the same QK width and the same VO width, or there are no heads."""
        return len(set(self.qk)) <= 1 and len(set(self.vo)) <= 1


class AttentionWidths(Output):
    """All layers. `head_dim` is the original model's: the softmax scale stays 1/sqrt(head_dim) whatever is cut."""

    head_dim: int
    layers: tuple[LayerWidths, ...]

    @classmethod
    def dense(cls, layers: int, heads: int, head_dim: int) -> Self:
        layer = LayerWidths(qk=(head_dim,) * heads, vo=(head_dim,) * heads)
        return cls(head_dim=head_dim, layers=(layer,) * layers)

    @classmethod
    def of(cls, head_dim: int, layers: Iterable[tuple[Iterable[int], Iterable[int]]]) -> Self:
        """From (qk widths, vo widths) a layer."""
        return cls(head_dim=head_dim, layers=tuple(LayerWidths(qk=tuple(qk), vo=tuple(vo)) for qk, vo in layers))

    @property
    def stock_shape(self) -> tuple[int, int] | None:
        """(heads, head width) where one pair describes every layer and QK = VO, else None; None too where no head is left.

        Exactly these layouts can be written as a stock configuration (`num_attention_heads`, `head_dim`).
        """
        shapes = {(layer.heads, *sorted({*layer.qk, *layer.vo})) for layer in self.layers}
        if len(shapes) != 1:
            return None
        heads, *widths = shapes.pop()
        return (heads, widths[0]) if heads and len(widths) == 1 else None
