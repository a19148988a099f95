"""Where output goes: results to standard output, everything else to standard error."""

import contextlib
import os
import sys
import unicodedata
from typing import TextIO

from rich.console import Console

_PIPE_WIDTH = 200
"""Columns where there is no terminal: no row of a table is to be broken."""


def results() -> Console:
    """Standard output."""
    return _console(sys.stdout)


def notes() -> Console:
    """Standard error."""
    return _console(sys.stderr)


def clean(text: str) -> str:
    """What another machine says, without the signs that terminals obey."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) != "Cc")


def _console(file: TextIO) -> Console:
    # A sign that the terminal's encoding lacks becomes a question mark, not an error.
    with contextlib.suppress(AttributeError, ValueError):
        file.reconfigure(errors="replace")  # type: ignore[attr-defined]
    fixed = None if file.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=file, width=fixed, highlight=False, markup=False, emoji=False, soft_wrap=False)
