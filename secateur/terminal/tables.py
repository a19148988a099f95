"""Tables that say the same at every width: if there is little room, some columns move below others, and ids are shortened."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.table import Table
from rich.text import Text

T = TypeVar("T")
WIDE = 100
"""From this width on every column stands for itself, and ids are whole."""
ID = 12
"""So much of an id is shown where there is little room."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """`below`: the header of the column under whose cells this one's stand where there is little room."""

    header: str
    cell: Callable[[T], str | Text]
    below: str | None = None
    right: bool = False
    wraps: bool = False
    """Whether what is too long goes on in the next line; otherwise it is cut."""
    longest: int | None = None
    least: int | None = None


def table(
    columns: Sequence[Column[T]],
    rows: Iterable[T],
    width: int,
    bold: Callable[[T], bool] | None = None,
    wide: int = WIDE,
) -> Table:
    """A row a thing. `width`: of the terminal; from `wide` on nothing is stacked. `bold`: which rows stand out."""
    stacks: dict[str, list[Column[T]]] = {}
    for column in columns:
        stacks.setdefault((column.below if width < wide else None) or column.header, []).append(column)
    found = Table(box=None, pad_edge=False, padding=(0, 1 if width < wide + 20 else 2, 0, 0))
    for number, stack in enumerate(stacks.values()):
        first = stack[0]
        longest = [column.longest for column in stack if column.longest]
        found.add_column(
            _header(stack, width < wide + 20),
            justify="right" if first.right else "left",
            no_wrap=not first.wraps and number > 0,
            overflow="fold" if first.wraps or number == 0 else "ellipsis",
            min_width=min(first.least, width // 4) if first.least else None,
            max_width=max(longest) if longest and (width < 2 * WIDE or len(stack) == 1) else None,
        )
    for row in rows:
        cells = [_stacked([column.cell(row) for column in stack]) for stack in stacks.values()]
        found.add_row(*cells, style="bold" if bold is not None and bold(row) else None)
    return found


def _header(stack: Sequence[Column[T]], narrow: bool) -> str:
    """A line for each; `accuracy, validation` over `accuracy, test` is said as accuracy, validation, test."""
    first = stack[0].header
    shared = f"{first.partition(', ')[0]}, " if ", " in first else None
    lines = [first, *(each.header.removeprefix(shared or "") for each in stack[1:])]
    return "\n".join(lines).replace(", ", ",\n") if narrow else "\n".join(lines)


def shown_id(identifier: str, width: int) -> str:
    """The id, or as much of its beginning as the commands need."""
    return identifier if width >= WIDE else identifier[:ID]


def _stacked(cells: Sequence[str | Text]) -> Text:
    lines = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
    while len(lines) > 1 and not lines[-1].plain:
        lines.pop()
    return Text("\n").join(lines)
