"""The style of figures. The colours are Okabe and Ito's, which colour-blind readers can tell apart."""

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


def covering(values: Sequence[float], least: float, *, share: bool) -> tuple[float, float]:
    """Ends of an axis that covers these and `least` at least, so that a small difference looks small; as the page's are
    (`spanned` in service/page/static/plots.js). A `share` has nothing above 1."""
    low, high = min(values), max(values)
    room = 0.12 * (high - low) if high > low else abs(high) * 0.1 or 0.1
    missing = max(0.0, least - (high - low + 2 * room)) / 2
    bottom, top = low - room - missing, high + room + missing
    over = max(0.0, top - 1.01) if share and high <= 1 else 0.0
    return (max(0.0, bottom - over) if low >= 0 else bottom - over), top - over


def percent_axis(axes: "Axes", label: str) -> None:
    """An x axis in percent that starts at zero."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:.0f}%")
    # Room left of zero for the marker, in proportion: no tick below zero.
    axes.set_xlim(left=-0.04 * axes.dataLim.xmax or None)
