"""A job that is waited for in a notebook, shown in place. IPython is used where it runs, and never needed."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


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
        return shown.HTML(thing._repr_html_())

    handle = shown.display(html(), display_id=True)
    yield lambda: handle.update(html())


def _in_notebook() -> bool:
    """Whether a kernel runs this: the shell of a terminal shows no HTML."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
