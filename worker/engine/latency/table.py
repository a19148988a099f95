"""The latency of layers by their widths, on one device: a table that is measured once and looked up for any widths.

An attention's time has the parts of its computation: projections, by their number of channels; calls of the attention kernel, by
heads and the padded width they share; and the copying that heads of unequal width need to share a call. A feed-forward block's
time depends on its neurons, if these are cut.

The table is committed with a step and reused when a job resumes, because the selection must not depend on a second measurement.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api_schemas.base import FrozenModel
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.widths import AttentionWidths, LayerWidths
from worker.engine.checkpoint.save import write_json
from worker.engine.models import head_groups

LATENCY_FILE = "latency_table.json"


class LatencyTable(FrozenModel):
    """Milliseconds at one batch size and number of tokens. Points of a grid rise; values between them are interpolated."""

    batch_size: int
    tokens: int
    device: str
    channels: tuple[int, ...]
    qk_ms: tuple[float, ...]
    """Both projections of the QK side at so many channels of a layer; `vo_ms` likewise."""
    vo_ms: tuple[float, ...]
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    kernel_ms: tuple[tuple[float, ...], ...]
    """By heads, then by the width they share: one call of the attention kernel."""
    copy_ms: float
    """A channel of a call, where its heads have unequal widths."""
    queries: int = 1
    """Heads of queries for each head, which are timed with it."""
    neurons: tuple[int, ...] = ()
    feed_forward_ms: tuple[float, ...] = ()
    """A feed-forward block of so many neurons. Both are empty where these stay, and their time is in `other_ms`."""
    other_ms: float
    """Everything but the layers' attention, and but their feed-forward blocks where these are cut."""
    dense_ms: float
    """The whole dense model."""
    noise: float = 0.0
    """Share by which two timings of the whole dense model in the same rounds may differ: a smaller saving is not measurable."""


@dataclass(frozen=True)
class LatencyModel:
    """A table, and how the module divides a layer's heads into calls of the kernel."""

    table: LatencyTable

    def milliseconds(self, widths: AttentionWidths) -> float:
        """The predicted time of one forward pass."""
        return self.table.other_ms + sum(map(self._layer, widths.layers)) + self._feed_forward(widths)

    def saved(self, widths: AttentionWidths) -> float:
        """The share of the dense model's predicted time that these widths save; below 0 where they are slower."""
        return 1.0 - self.milliseconds(widths) / self.table.dense_ms

    def _layer(self, layer: LayerWidths) -> float:
        if not layer.heads:
            return 0.0
        table = self.table
        projections = _between(table.channels, table.qk_ms, layer.qk_total)
        projections += _between(table.channels, table.vo_ms, layer.vo_total)
        copied = 0 if layer.uniform else self.channels_in_calls(layer)
        return projections + self.kernels(layer) + table.copy_ms * copied

    def _feed_forward(self, widths: AttentionWidths) -> float:
        table = self.table
        if not table.neurons:
            return 0.0
        return sum(_between(table.neurons, table.feed_forward_ms, neurons) for neurons in widths.feed_forward)

    def _calls(self, layer: LayerWidths) -> list[tuple[int, int]]:
        """(heads, width they share) of each call of the kernel."""
        groups = head_groups(layer.qk, layer.vo, self.table.queries * self.table.tokens**2)
        return [(len(heads), width) for heads, width in groups]

    def channels_in_calls(self, layer: LayerWidths) -> int:
        """Channels of all calls, padding included."""
        return sum(heads * width for heads, width in self._calls(layer))

    def kernels(self, layer: LayerWidths) -> float:
        """The time of a layer's calls of the kernel, without copying."""
        table, total = self.table, 0.0
        for heads, width in self._calls(layer):
            total += _between(table.heads, [_between(table.widths, row, width) for row in table.kernel_ms], heads)
        return total


def write_latency_table(folder: Path, table: LatencyTable) -> None:
    """`latency_table.json` of a step."""
    write_json(folder / LATENCY_FILE, table.model_dump(mode="json"))


def read_latency_table(folder: Path) -> LatencyTable:
    """The table that a step was committed with. INPUT_LOST where it is not there or not one."""
    try:
        return LatencyTable.model_validate_json((folder / LATENCY_FILE).read_bytes())
    except (OSError, ValueError) as error:
        detail = f"The step to continue from ({folder.name}) has no readable {LATENCY_FILE}: {error}"
        raise SecateurError(ErrorCode.INPUT_LOST, detail) from error


def _between(grid: Sequence[int], values: Sequence[float], at: float) -> float:
    """Linear between the points of a grid, and beyond its ends along the outermost piece."""
    if len(grid) == 1:
        return values[0]
    right = min(max(bisect_right(grid, at), 1), len(grid) - 1)
    part = (at - grid[right - 1]) / (grid[right] - grid[right - 1])
    return values[right - 1] + part * (values[right] - values[right - 1])
