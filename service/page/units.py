"""Numbers of figures as they are written in tables and on axes."""

from typing import Literal

from api_schemas import formatting

Unit = Literal["share", "ratio", "ms", "bytes", "count", "number"]


def written(value: float | None, unit: Unit) -> str:
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
