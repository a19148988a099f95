"""What ends the demo."""


class DemoError(Exception):
    """Something the demo cannot go on after; the text says what."""
