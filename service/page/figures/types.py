"""The types of figures (curves over an axis, maps of cells, bars) and the formatting of their numbers."""

from dataclasses import dataclass
from typing import Literal

from api_schemas import formatting

Unit = Literal["share", "ratio", "ms", "bytes", "count", "number"]
Look = Literal["line", "dash", "dots", "level", "bound"]
"""A `level` is the same everywhere, such as the original's; a `bound` is one that should not be crossed."""


@dataclass(frozen=True)
class Series:
    """A value for every x; None where there is none. `spans`: the interval that each value lies in, drawn as a band."""

    name: str
    values: tuple[float | None, ...]
    look: Look = "line"
    spans: tuple[tuple[float, float] | None, ...] = ()
    like: int | None = None
    """Number of the series whose colour it has; None: one of its own."""

    def colour(self, number: int) -> int:
        """Which of the six it has as the figure's series `number`."""
        return (number if self.like is None else self.like) % 6

    def span(self, row: int) -> tuple[float, float] | None:
        """Of one x."""
        return self.spans[row] if self.spans else None


@dataclass(frozen=True)
class Curves:
    """`x` rises. `rows`: what each x is called in the table. `least`: the y axis covers that much at least, in its own unit, so
    that a small difference looks small."""

    name: str
    title: str
    caption: str
    x_label: str
    x: tuple[float, ...]
    x_unit: Unit
    y_label: str
    unit: Unit
    series: tuple[Series, ...]
    rows: tuple[str, ...]
    row_name: str = "Step"
    from_zero: bool = False
    least: float = 0.0


@dataclass(frozen=True)
class Bar:
    """What is left of one quantity, as a share of the original's; `span` is the interval of a share that was timed."""

    name: str
    before: str
    after: str
    share: float
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class HeatMap:
    """A cell for every row and column; None where there is nothing. `highest` is the value of the strongest colour."""

    name: str
    title: str
    row_name: str
    column_name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    highest: float
    digits: int = 0

    LEVELS = 20

    def level(self, value: float) -> int:
        """Which of the colours 0 to LEVELS the cell has. Of the number as it is written: equal numbers look alike."""
        share = round(value, self.digits) / self.highest if self.highest > 0 else 0.0
        return round(self.LEVELS * min(1.0, max(0.0, share)))

    def text(self, value: float) -> str:
        """The number in the cell; adding zero takes the sign from a rounded -0."""
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}"


def format_value(value: float | None, unit: Unit) -> str:
    """`91.8%`, `1.23×`, `5.73 ms`, `10.9 MB`, `3`, `0.3891`; nothing for what was not measured."""
    if value is None:
        return ""
    return {
        "share": lambda: formatting.percent(value),
        "ratio": lambda: f"{value:.2f}×",
        "ms": lambda: formatting.milliseconds(value),
        "bytes": lambda: formatting.file_size(round(value)),
        "count": lambda: f"{value:g}",
        "number": lambda: f"{value:.4f}",
    }[unit]()
