"""The figures as PNG and SVG files: one style, and the same bytes for the same input.

matplotlib is imported inside the functions: an engine that only scores or packages does not need it. It does not use pyplot:
figures are plain objects, with no window system and no global list behind them.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api_schemas.results.metrics import StepMetrics
from api_schemas.spec.job import EngineSpec
from worker.engine.report import plots
from worker.engine.report.style import INK, Drawing, Plot

_DPI = 144
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#9aa5b1",
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.9,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and takes the page's colour
    "path.simplify": False,
}


@contextmanager
def _style(name: str) -> Iterator[None]:
    import matplotlib

    settings: Any = {
        **_STYLE,
        "svg.hashsalt": name,
    }  # element ids are hashed with the salt; without one they are random
    with matplotlib.rc_context(settings):
        yield


def _render(name: str, drawing: Drawing) -> tuple[bytes, bytes]:
    from matplotlib.figure import Figure

    with _style(name):
        figure = Figure(figsize=drawing.size, layout="constrained")
        drawing.draw(figure)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return png.getvalue(), svg.getvalue()


def write_figures(folder: Path, steps: Sequence[StepMetrics], spec: EngineSpec) -> tuple[Plot, ...]:
    """Write `figure-<name>.png` and `.svg` for every figure the steps have data for; return what was drawn, in order.

    `steps` begins with step 0, the original model. Raises nothing of its own; an OSError of
    the folder passes through.
    """
    drawn = []
    for plot in plots.available(steps, spec):
        png, svg = _render(plot.name, plot.drawing)
        (folder / f"{plot.file}.png").write_bytes(png)
        (folder / f"{plot.file}.svg").write_bytes(svg)
        drawn.append(plot)
    return tuple(drawn)
