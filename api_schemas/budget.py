"""What a target counts in: what a channel costs, and how much of the original has gone, in parameters or in FLOPs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from api_schemas import accounting
from api_schemas.accounting import ModelShape
from api_schemas.enums import TargetKind
from api_schemas.widths import AttentionWidths, LayerWidths


@dataclass(frozen=True)
class Unit:
    """Costs of channels in the unit of a target. A share of the target is a share of `total`."""

    qk: int
    """One QK channel."""
    vo: int
    """One VO channel."""
    total: int
    """All that the original has of what the target counts."""
    channels: int
    """QK channels of one layer of the original, and as many VO channels: every layer was equally wide."""

    @classmethod
    def of(cls, shape: ModelShape, layers: int, kind: TargetKind) -> Self:
        """The unit of `kind` for a model of so many layers. ValueError for latency, which is measured and not counted."""
        channels = accounting.original_channels(shape, layers)
        qk, vo = accounting.qk_channel_parameters(shape), accounting.vo_channel_parameters(shape)
        flops = accounting.channel_flops(shape)
        match kind:
            case TargetKind.ATTENTION_SPARSITY:
                return cls(qk, vo, shape.attention_parameters, channels)
            case TargetKind.PARAMETERS:
                return cls(qk, vo, shape.other_parameters + shape.attention_parameters, channels)
            case TargetKind.FLOPS:
                return cls(flops, flops, shape.other_flops + 2 * layers * channels * flops, channels)
            case TargetKind.LATENCY:
                raise ValueError("latency is measured on the worker's device, not counted")

    def cost(self, side: str) -> int:
        """One channel of `qk` or `vo`."""
        return self.qk if side == "qk" else self.vo

    def removed(self, layers: Iterable[LayerWidths], side: str = "") -> int:
        """What has gone from these layers, of one side (`qk`, `vo`) or of both."""
        total = 0
        for layer in layers:
            if side != "vo":
                total += self.qk * (self.channels - layer.qk_total)
            if side != "qk":
                total += self.vo * (self.channels - layer.vo_total)
        return total

    def share(self, widths: AttentionWidths) -> float:
        """What has gone of the whole model, as a share of what the original had: the target's own measure."""
        return self.removed(widths.layers) / self.total
