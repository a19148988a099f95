"""Numbers as people write them, and words of strangers made harmless for Markdown.

Label, column and lineage names come from uploads. HTML is escaped by jinja2; Markdown has no such engine, hence this.
"""

import string
import unicodedata

_PUNCTUATION = frozenset(string.punctuation)
MAX_WORD = 120


def plain(word: str) -> str:
    """One printable line of bounded length: control and bidirectional characters gone, white space single."""
    kept = "".join(
        " " if c.isspace() else c for c in word if c.isspace() or not unicodedata.category(c).startswith("C")
    )
    line = " ".join(kept.split())
    return line if len(line) <= MAX_WORD else line[: MAX_WORD - 1] + "…"


def line(text: str) -> str:
    """A line of a log: control and bidirectional characters gone, everything else as it is."""
    return "".join(c for c in text if c in "\t " or not unicodedata.category(c).startswith("C"))


def markdown(word: str) -> str:
    """`plain`, and every ASCII punctuation mark escaped: no link, image, HTML, table cell or heading can come of it.

    A backslash before any ASCII punctuation character is that character, literally (CommonMark 0.31, section 2.4).
    """
    return "".join("\\" + c if c in _PUNCTUATION else c for c in plain(word))


def percent(share: float, digits: int = 1) -> str:
    """0.501 → `50.1%`."""
    return f"{100 * share:.{digits}f}%"


def points(share: float) -> str:
    """A difference of two shares: 0.01 → `1 point`, 0.005 → `0.5 points`."""
    return f"{100 * share:.12g} point{'s' if round(100 * share, 9) != 1 else ''}"


def _three_digits(number: float) -> str:
    """12.345 → `12.3`, 12 → `12.0`, 590 → `590`."""
    return f"{number:#.3g}".rstrip(".")


def count(number: int) -> str:
    """1234567 → `1.23 M`."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(number) >= size:
            return f"{_three_digits(number / size)} {unit}"
    return str(number)


def file_size(number: int) -> str:
    """Bytes in decimal units, as disks and downloads count them."""
    return f"{count(number)}B" if number >= 1000 else f"{number} B"


def milliseconds(number: float) -> str:
    """Three significant digits: `0.412 ms`, `12.3 ms`, `1250 ms`."""
    return f"{number:.0f} ms" if number >= 1000 else f"{_three_digits(number)} ms"


def time_range(low: float, high: float) -> str:
    """Seconds from and to as words, in a unit that suits both: "2 to 6 minutes"."""
    size, unit = next((each for each in ((3600, "hours"), (60, "minutes")) if high >= 2 * each[0]), (1, "seconds"))
    return f"{_two_digits(low / size)} to {_two_digits(high / size)} {unit}"


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"
