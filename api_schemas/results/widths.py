"""How wide every attention head is: the one record of what was cut, from the safetensors header to the report."""

import re
from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, field_serializer, field_validator, model_validator

from api_schemas.base import FrozenModel

_MASK = re.compile(r"[0-9a-f]{1,256}")


def mask_of(numbers: Iterable[int]) -> str:
    """Different numbers from 0 on as the bits of one, in hexadecimal: "b" is 0, 1 and 3."""
    return f"{sum(1 << number for number in numbers):x}"


def numbers_of(mask: str) -> tuple[int, ...]:
    """What `mask_of` was given, rising. ValueError where it is no such number, of 256 digits at most."""
    if not _MASK.fullmatch(mask):
        raise ValueError("a hexadecimal number of at most 256 digits is needed")
    bits = int(mask, 16)
    return tuple(number for number in range(bits.bit_length()) if bits >> number & 1)


class LayerWidths(FrozenModel):
    """One layer: `qk[h]` and `vo[h]` are the channels that head h keeps in its query/key and value/output pair.

    With grouped queries, a head is one key–value head with all its query heads, which have the same width. Heads can differ in
    width. A layer can have no heads: both lists are then empty, and its attention outputs b_o for every token.
    """

    qk: tuple[int, ...]
    vo: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    """Indices of these heads in the original, in order; if omitted, the first ones."""
    rotary: tuple[tuple[int, ...], ...] = Field(
        (),
        exclude_if=lambda pairs: not pairs,
        description="For rotary positions, by head: the pairs of channels that it keeps, numbered as in the original, as a "
        "hexadecimal bit mask in which bit p stands for pair p. In a head with P pairs, channels p and p + P form a pair; "
        "those after 2 P are not rotated.",
    )
    qk_whole: bool = Field(
        False,
        exclude_if=lambda whole: not whole,
        description="True if norms of queries and keys (Qwen3, Gemma 3) or relative positions (Wav2Vec2-BERT) need all "
        "channels of a head: QK channels are then removed only together with their head.",
    )

    @field_validator("rotary", mode="before")
    @classmethod
    def _unpacked(cls, said: Any) -> Any:
        if not isinstance(said, list | tuple):
            return said
        return tuple(numbers_of(own) if isinstance(own, str) else own for own in said)

    @field_serializer("rotary", when_used="json")
    def _packed(self, rotary: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
        # Of a large model lists of them would be most of its configuration.
        return tuple(map(mask_of, rotary))

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("numbers"):
            return {**data, "numbers": tuple(range(len(data.get("qk", ()))))}
        return data

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not len(self.qk) == len(self.vo) == len(self.numbers):
            raise ValueError("a head has a QK width, a VO width and a number: the lists must be equally long")
        if list(self.numbers) != sorted(set(self.numbers)):
            raise ValueError("heads keep their order: numbers rise")
        if any(width < 1 for width in (*self.qk, *self.vo)):
            raise ValueError("a head that is kept has at least one QK and one VO channel")
        if self.rotary:
            if len(self.rotary) != self.heads or any(list(own) != sorted(set(own)) for own in self.rotary):
                raise ValueError("rotary names rising numbers of pairs for every head")
            if any(width % 2 or width < 2 * len(own) for width, own in zip(self.qk, self.rotary, strict=True)):
                raise ValueError("QK channels that are rotated go in pairs")
        if self.qk_whole and len(set(self.qk)) > 1:
            raise ValueError("heads whose QK channels all stay are equally wide there")
        return self

    @property
    def heads(self) -> int:
        return len(self.qk)

    @property
    def qk_unit(self) -> int:
        """QK channels that leave together at the least."""
        if self.qk_whole:
            return max(self.qk, default=1)
        return 2 if self.rotary else 1

    def units(self, side: str, head: int) -> tuple[tuple[int, ...], ...]:
        """The channels of one side of a head, those together that leave together: each alone, the two of a rotated pair, or all.

        Of a head that is rotated in part only the other QK channels go by twos of neighbours, so that all its units are alike.
        """
        if side == "qk" and self.qk_whole:
            return (tuple(range(self.qk[head])),)
        if side != "qk" or not self.rotary:
            return tuple((c,) for c in range((self.qk if side == "qk" else self.vo)[head]))
        pairs = len(self.rotary[head])
        rotated = tuple((p, p + pairs) for p in range(pairs))
        return rotated + tuple((c, c + 1) for c in range(2 * pairs, self.qk[head], 2))

    def kept_pairs(self, head: int, qk: Iterable[int]) -> tuple[int, ...]:
        """The numbers in the original of the rotated pairs that are among these channels of a head."""
        kept = set(qk)
        return tuple(number for p, number in enumerate(self.rotary[head]) if p in kept)

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


class AttentionWidths(FrozenModel):
    """All attention layers of a model and its feed-forward blocks, each in the order in which the model runs them.

    `head_dim` is the original model's: the softmax scale stays 1/sqrt(head_dim) whatever is cut.
    """

    head_dim: int
    layers: tuple[LayerWidths, ...]
    feed_forward: tuple[int, ...] = ()
    """Number of neurons by block; empty if not known."""

    @classmethod
    def dense(cls, layers: int, heads: int, head_dim: int, feed_forward: tuple[int, ...] = ()) -> Self:
        """`layers` attentions of the same width."""
        layer = LayerWidths(qk=(head_dim,) * heads, vo=(head_dim,) * heads)
        return cls(head_dim=head_dim, layers=(layer,) * layers, feed_forward=feed_forward)

    @classmethod
    def of(
        cls,
        head_dim: int,
        layers: Iterable[tuple[Iterable[int], Iterable[int]]],
        feed_forward: tuple[int, ...] = (),
    ) -> Self:
        """From (qk widths, vo widths) an attention."""
        found = tuple(LayerWidths(qk=tuple(qk), vo=tuple(vo)) for qk, vo in layers)
        return cls(head_dim=head_dim, layers=found, feed_forward=feed_forward)

    @property
    def stock_shape(self) -> tuple[int, int] | None:
        """(heads, head width) where one pair describes every attention and QK = VO, else None; None too where no head is left.

        Exactly these layouts can be written as a stock configuration (`num_attention_heads`, `head_dim`).
        """
        shapes = {(layer.heads, *sorted({*layer.qk, *layer.vo})) for layer in self.layers}
        if len(shapes) != 1:
            return None
        heads, *widths = shapes.pop()
        return (heads, widths[0]) if heads and len(widths) == 1 else None
