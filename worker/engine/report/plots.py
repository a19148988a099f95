"""What each figure shows: five drawings of a job's steps, each a function onto an empty matplotlib figure.

Colours are Okabe and Ito's, told apart by colour-blind readers; series differ in marker and dash as well. Heat maps use
cividis, which rises evenly in lightness.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_schemas.metrics import StepMetrics
from worker.engine.report.reading import (
    Pair,
    batch_sizes,
    kept_channels,
    latency_at,
    layer_sparsity,
    metric,
    metric_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2a37"
"""Axes and text. On the page it becomes the page's own text colour; nothing else is drawn in it."""
_MUTED = "#6b7683"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_PAIRS: tuple[Pair, ...] = ("QK", "VO")
_MAX_LABELLED_CELLS = 400


@dataclass(frozen=True)
class Drawing:
    """Inches, and what to draw into them."""

    size: tuple[float, float]
    draw: "Callable[[Figure], None]"


@dataclass(frozen=True)
class Plot:
    """One figure: its file is `figure-<name>`, its caption says how to read it."""

    name: str
    title: str
    caption: str
    drawing: Drawing

    @property
    def file(self) -> str:
        return f"figure-{self.name}"


def _percent_axis(axes: "Axes", label: str) -> None:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:.0f}%")
    # Room left of zero for the marker, in proportion: no tick below zero.
    axes.set_xlim(left=-0.04 * axes.dataLim.xmax or None)


def _percents(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _series(steps: Sequence[StepMetrics], values: Sequence[float | None]) -> tuple[list[float], list[float]]:
    points = [(100 * s.achieved_sparsity, v) for s, v in zip(steps, values, strict=True) if v is not None]
    return [x for x, _ in points], [y for _, y in points]


def _draw_tradeoff(figure: "Figure", steps: Sequence[StepMetrics], multi_label: bool) -> None:
    axes = figure.add_subplot()
    after = [metric(step.validation, multi_label) for step in steps]
    before = [metric(step.validation_before_recovery, multi_label) for step in steps]
    test = [metric(step.test, multi_label) for step in steps]
    if after[0] is not None:
        axes.axhline(
            100 * after[0], color=_MUTED, linestyle=(0, (2, 2)), linewidth=1.2, label="original model, validation"
        )
    for values, label, colour, marker, dash in (
        (after, "after recovery, validation", _COLOURS[0], "o", "-"),
        (before, "before recovery, validation", _COLOURS[1], "s", "--"),
        (test, "test (measured once)", _COLOURS[2], "D", ""),
    ):
        x, y = _series(steps, values)
        if x:
            axes.plot(x, _percents(y), color=colour, marker=marker, linestyle=dash or "none", label=label)
    axes.set_ylabel(f"{metric_name(multi_label)} (%)")
    _percent_axis(axes, "attention parameters removed")
    axes.margins(y=0.12)
    axes.legend(loc="best")


def _draw_speed(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    ratio, times = figure.subplots(1, 2)
    for index, batch_size in enumerate(batch_sizes(steps)):
        timed = [(step, row) for step in steps if (row := latency_at(step, batch_size))]
        x = [100 * step.achieved_sparsity for step, _ in timed]
        look = {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
        ratio.plot(x, [row.speedup for _, row in timed], label=f"batch {batch_size}", **look)
        # Milliseconds for one input, so that batch sizes can be compared on one axis.
        median = [row.p50_ms / batch_size for _, row in timed]
        times.plot(x, median, label=f"batch {batch_size}", **look)
        worst = [row.p95_ms / batch_size for _, row in timed]
        times.fill_between(x, median, worst, color=look["color"], alpha=0.18, linewidth=0)
    ratio.axhline(1.0, color=_MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
    ratio.set_title("Speed-up")
    ratio.set_ylabel("times as fast as the original")
    times.set_title("Inference time")
    times.set_ylabel("ms an input: median, shaded to p95")
    times.set_ylim(bottom=0)
    for axes in (ratio, times):
        _percent_axis(axes, "attention parameters removed")
    ratio.legend(loc="best")


def _cells(axes: "Axes", rows: Sequence[Sequence[float]], width: int, highest: float) -> None:
    """A heat map from 0 to `highest` with its numbers written in; a row shorter than `width` ends in empty cells."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    grid = np.full((len(rows), width), np.nan)
    for r, row in enumerate(rows):
        grid[r, : len(row)] = row
    colours, scale = colormaps["cividis"], Normalize(0.0, highest)
    edges_x, edges_y = np.arange(width + 1) - 0.5, np.arange(len(rows) + 1) - 0.5
    # A mesh of rectangles rather than an image: an SVG of it holds no bitmap and stays sharp.
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
            axes.text(
                c, r, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color="#ffffff" if dark else "#101820"
            )


def _draw_layers(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    for axes, pair in zip(figure.subplots(1, 2, sharey=True), _PAIRS, strict=True):
        rows = [_percents(layer_sparsity(steps[0].widths, step.widths, pair)) for step in steps[1:]]
        _cells(axes, rows, len(steps[0].widths.layers), 100.0)
        axes.set_title(f"{pair}: channels removed (%)")
        axes.set_xlabel("layer")
        axes.set_yticks(range(len(rows)), [str(step.step) for step in steps[1:]])
    figure.axes[0].set_ylabel("after step")


def _draw_widths(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    widths = steps[-1].widths
    widest = max((max(layer.qk + layer.vo, default=1) for layer in steps[0].widths.layers), default=1)
    heads = max((layer.heads for layer in steps[0].widths.layers), default=0)
    for axes, pair in zip(figure.subplots(1, 2, sharey=True), _PAIRS, strict=True):
        _cells(axes, [kept_channels(layer, pair) for layer in widths.layers], heads, float(widest))
        axes.set_title(f"{pair}: channels kept of {widest}")
        axes.set_xlabel("surviving head")
    figure.axes[0].set_ylabel("layer")


def _draw_loss(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    start = 0
    trained = [step for step in steps if step.losses]
    for index, step in enumerate(trained):
        x = [start + number for number in range(1, len(step.losses) + 1)]
        axes.plot(x, [row.train_loss for row in step.losses], color=_COLOURS[0], marker="o")
        axes.axvspan(start + 0.5, x[-1] + 0.5, color="#9aa5b1", alpha=0.16 if index % 2 else 0.0, linewidth=0)
        if len(trained) <= 20:
            axes.annotate(
                f"step {step.step}" if len(trained) <= 8 else str(step.step),
                ((start + 0.5 + x[-1] + 0.5) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        start = x[-1]
    axes.set_xlim(0.5, start + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch of recovery, counted through all steps")
    axes.set_ylabel("mean training loss")


def available(steps: Sequence[StepMetrics], *, multi_label: bool) -> Iterator[Plot]:
    """The figures these steps have data for. `steps` begins with the original model (step 0)."""
    layers = len(steps[0].widths.layers)
    name = metric_name(multi_label)
    yield Plot(
        "tradeoff",
        f"{name.capitalize() if name == 'accuracy' else name} against attention sparsity",
        "Each point is one step: right after the cut, and after recovery. The dashed line is the original model.",
        Drawing((7.4, 3.7), lambda figure: _draw_tradeoff(figure, steps, multi_label)),
    )
    if batch_sizes(steps):
        yield Plot(
            "speed",
            "Speed against attention sparsity",
            "Timed on the worker's own device, original and cut model in turn. Above 1 is faster than the original.",
            Drawing((7.4, 3.4), lambda figure: _draw_speed(figure, steps)),
        )
    if len(steps) > 1:
        height = 1.3 + min(0.3 * len(steps), 9.0)
        yield Plot(
            "layers",
            "Sparsity of every layer after each step",
            "A row a step, a column a layer (counted from 0): the share of that layer's channels that is gone.",
            Drawing((7.4, height), lambda figure: _draw_layers(figure, steps)),
        )
    yield Plot(
        "widths",
        "Width of every head at the last step",
        "A row a layer, a cell a head that is left, with the channels it keeps; removed heads leave the row shorter.",
        Drawing((7.4, 1.2 + min(0.29 * layers, 12.0)), lambda figure: _draw_widths(figure, steps)),
    )
    if any(step.losses for step in steps):
        yield Plot(
            "loss",
            "Training loss of each recovery",
            "Mean loss of every epoch; a band is one step. Each cut sets the loss back, recovery brings it down.",
            Drawing((7.4, 3.2), lambda figure: _draw_loss(figure, steps)),
        )
