"""How figures look, and what one is. Colours are Okabe and Ito's, told apart by colour-blind readers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2a37"
"""Axes and text. On the page it becomes the page's own text colour; nothing else is drawn in it."""
MUTED = "#6b7683"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"


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


def percents(values: Sequence[float]) -> list[float]:
    """Shares as numbers of percent."""
    return [100 * value for value in values]


def percent_axis(axes: "Axes", label: str) -> None:
    """An x axis in percent that starts at zero."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:.0f}%")
    # Room left of zero for the marker, in proportion: no tick below zero.
    axes.set_xlim(left=-0.04 * axes.dataLim.xmax or None)
