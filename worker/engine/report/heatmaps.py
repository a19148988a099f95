"""Heat maps by layer: what was removed, step by step and head by head, and the cost of cutting each layer alone.

Cividis rises evenly in lightness. Cells are rectangles rather than an image, so the drawing stays sharp and contains no bitmap.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api_schemas.enums import Part
from api_schemas.results.display import PAIRS, block_sparsity, head_sparsity, layer_sparsity
from api_schemas.results.metrics import Sensitivity, StepMetrics
from worker.engine.report.style import percents

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_LABELLED_CELLS = 400


def _cells(axes: "Axes", rows: Sequence[Sequence[float]], width: int, highest: float, digits: int = 0) -> None:
    """From 0 to `highest` with its numbers written in; a row shorter than `width`, or NaN, leaves empty cells."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    grid = np.full((len(rows), width), np.nan)
    for r, row in enumerate(rows):
        grid[r, : len(row)] = row
    colours, scale = colormaps["cividis"], Normalize(0.0, highest)
    edges_x, edges_y = np.arange(width + 1) - 0.5, np.arange(len(rows) + 1) - 0.5
    axes.pcolormesh(
        edges_x, edges_y, np.ma.masked_invalid(grid), cmap=colours, norm=scale, edgecolors="#ffffff", linewidth=0.6
    )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=13, integer=True, min_n_ticks=1))
    if grid.size > _MAX_LABELLED_CELLS:
        return
    for (r, c), value in np.ndenumerate(grid):
        if not np.isnan(value):
            dark = scale(value) < 0.55
            label = f"{round(value, digits) + 0.0:.{digits}f}"  # Adding zero takes the sign from a rounded -0.
            axes.text(c, r, label, ha="center", va="center", fontsize=7.5, color="#ffffff" if dark else "#101820")


def draw_layers(figure: "Figure", steps: Sequence[StepMetrics], parts: Sequence[Part]) -> None:
    """Share of every attention's channels, and of every feed-forward block's neurons, that is gone, after every step."""
    dense, panels = steps[0].widths, []
    if Part.ATTENTION in parts:
        for pair in PAIRS:
            rows = [percents(layer_sparsity(dense, step.widths, pair)) for step in steps[1:]]
            panels.append((f"{pair}: channels removed (%)", rows, len(dense.layers)))
    if Part.FEED_FORWARD in parts:
        rows = [percents(block_sparsity(dense, step.widths)) for step in steps[1:]]
        panels.append(("neurons removed (%)", rows, len(dense.feed_forward)))
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, rows, columns) in zip(every, panels, strict=True):
        _cells(axes, rows, columns, 100.0)
        axes.set_title(title)
        axes.set_xlabel("layer")
        axes.set_yticks(range(len(rows)), [str(step.step) for step in steps[1:]])
    figure.axes[0].set_ylabel("after step")


def draw_heads(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    """Share of every head's channels that is gone, under the number it has in the original; 100 is a head that is gone."""
    dense = steps[0].widths
    heads = max((layer.heads for layer in dense.layers), default=0)
    for axes, pair in zip(figure.subplots(1, 2, sharey=True), PAIRS, strict=True):
        _cells(axes, [percents(layer) for layer in head_sparsity(dense, steps[-1].widths, pair)], heads, 100.0)
        axes.set_title(f"{pair}: channels removed (%)")
        axes.set_xlabel("head")
    figure.axes[0].set_ylabel("layer")


def draw_sensitivity(figure: "Figure", found: Sensitivity, name: str, *, higher_is_better: bool) -> None:
    """What cutting each layer alone costs, a column a share: in points of `Scores.metric` and in cross entropy, where measured.

    Of a model that writes token by token that is the latter alone.

    `name` is the task's; of a rate of errors, points lost are points gained.
    """
    nothing = float("nan")
    lost = [
        [nothing if m is None or found.dense_metric is None else 100 * (found.dense_metric - m) for m in layer.metric]
        for layer in found.layers
    ]
    dense, panels = found.dense_cross_entropy, []
    if found.dense_metric is not None or dense is None:
        panels.append((lost, f"{name} lost (points)" if higher_is_better else f"{name} gained (points)", 1))
    if dense is not None:
        gained = [[nothing if loss is None else loss - dense for loss in layer.cross_entropy] for layer in found.layers]
        panels.append((gained, "cross entropy gained (nats)", 2))
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (rows, title, digits) in zip(every, panels, strict=True):
        highest = max((value for row in rows for value in row if value == value), default=0.0)
        _cells(axes, rows, len(found.shares), max(highest, 1e-9), digits)
        axes.set_title(title)
        axes.set_xticks(range(len(found.shares)), [f"{100 * share:.0f}%" for share in found.shares])
        axes.set_xlabel("of the layer's attention removed")
    figure.axes[0].set_ylabel("layer")
