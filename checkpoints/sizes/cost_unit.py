"""The unit of a target: the cost of a channel or neuron, and how much of the original was removed, in parameters or in FLOPs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from api_schemas.enums import Part, TargetKind
from api_schemas.results.widths import AttentionWidths
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape

SIDES = ("qk", "vo")


@dataclass(frozen=True)
class CostUnit:
    """Costs in the unit of a target, block by block. A share of the target is a share of `total`."""

    qk: tuple[int, ...]
    """One QK channel, by attention."""
    vo: tuple[int, ...]
    """One VO channel."""
    neuron: tuple[int, ...]
    """One neuron, by feed-forward block."""
    total: int
    """All that the original has of what the target counts."""
    dense: AttentionWidths
    """The original's widths."""
    counts: frozenset[Part] = frozenset(Part)
    """What the target counts at all."""

    @classmethod
    def of(cls, shape: ModelShape, kind: TargetKind) -> Self:
        """The unit of `kind`. ValueError for latency, which is measured and not counted."""
        dense = shape.dense
        qk = tuple(map(accounting.qk_channel_parameters, shape.attention))
        vo = tuple(map(accounting.vo_channel_parameters, shape.attention))
        neuron = tuple(map(accounting.neuron_parameters, shape.feed_forward))
        match kind:
            case TargetKind.ATTENTION_SPARSITY:
                total = accounting.attention_parameters(shape, dense)
                return cls(qk, vo, neuron, total, dense, frozenset({Part.ATTENTION}))
            case TargetKind.FFN_SPARSITY:
                total = accounting.feed_forward_parameters(shape, dense)
                return cls(qk, vo, neuron, total, dense, frozenset({Part.FEED_FORWARD}))
            case TargetKind.PARAMETERS:
                return cls(qk, vo, neuron, accounting.total_parameters(shape, dense), dense)
            case TargetKind.FLOPS:
                flops = tuple(map(accounting.channel_flops, shape.attention))
                of_neuron = tuple(map(accounting.neuron_flops, shape.feed_forward))
                return cls(flops, flops, of_neuron, accounting.total_flops(shape, dense), dense)
            case TargetKind.LATENCY:
                raise ValueError("latency is measured on the worker's device, not counted")

    def cost(self, number: int, side: str) -> int:
        """One channel of `qk` or `vo` of an attention, or one `neuron` of a feed-forward block."""
        costs = {"qk": self.qk, "vo": self.vo, "neuron": self.neuron}[side]
        return costs[number]

    def original(self, numbers: Iterable[int], side: str = "") -> int:
        """What these attentions had, of one side (`qk`, `vo`) or of both; with `neuron`, these feed-forward blocks.

        FrozenModel biases, which stay, are not counted.
        """
        return self._sum(self.dense, numbers, side)

    def removed(self, widths: AttentionWidths, numbers: Iterable[int], side: str = "") -> int:
        """What has gone from these, of one side or of both."""
        numbers = tuple(numbers)
        return self._sum(self.dense, numbers, side) - self._sum(widths, numbers, side)

    def _sum(self, widths: AttentionWidths, numbers: Iterable[int], side: str) -> int:
        if side == "neuron":
            return sum(self.neuron[number] * widths.feed_forward[number] for number in numbers)
        total = 0
        for number in numbers:
            layer = widths.layers[number]
            for each, channels in zip(SIDES, (layer.qk_total, layer.vo_total), strict=True):
                if side in ("", each):
                    total += self.cost(number, each) * channels
        return total

    def share(self, widths: AttentionWidths) -> float:
        """What has gone of the whole model, as a share of what the original had: the target's own measure."""
        removed = 0
        if Part.ATTENTION in self.counts:
            removed += self.removed(widths, range(len(self.qk)))
        if Part.FEED_FORWARD in self.counts:
            removed += self.removed(widths, range(len(self.neuron)), "neuron")
        return removed / self.total
