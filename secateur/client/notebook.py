"""Shows a job in place while a notebook waits for it. Uses IPython if it is running, and never requires it."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_shown: dict[int, str] = {}
"""What `live` showed last, by the number of the cell."""


class Shown(Protocol):
    """What notebooks can show."""

    def _repr_html_(self) -> str: ...


@contextmanager
def live(thing: Shown) -> Iterator[Callable[[], None]]:
    """Show `thing` now, and again, in its place, whenever the yielded function is called. Outside notebooks nothing happens."""
    if not _in_notebook():
        yield lambda: None
        return
    shown: Any = importlib.import_module("IPython.display")

    def html() -> Any:
        text = thing._repr_html_()
        _shown.clear()
        _shown[_cell()] = text
        return shown.HTML(text)

    handle = shown.display(html(), display_id=True)
    yield lambda: handle.update(html())


def unless_shown(html: str) -> None:
    """For IPython's hook `_ipython_display_`, which shows nothing more where it returns.

    A cell that ends with `job.wait()` has shown the job in its place; as the value of the cell it would be shown once more.
    Raises NotImplementedError, which leaves it to IPython, where this cell does not show the same already.
    """
    if _shown.get(_cell()) != html:
        raise NotImplementedError


def _shell() -> Any:
    ipython: Any = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _cell() -> int:
    return int(getattr(_shell(), "execution_count", 0))


def _in_notebook() -> bool:
    """Whether a kernel runs this: the shell of a terminal shows no HTML."""
    return hasattr(_shell(), "kernel")
