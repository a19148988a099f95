"""The demonstration: synthesised keyword data, a small AST trained on it, and the whole service run over HTTP."""


class DemoError(Exception):
    """Something the demo cannot go on after; the text says what."""
