"""report.html: one self-contained page (inline figures, no requests), light and dark, for screen and print."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from api_schemas import formatting
from api_schemas.enums import Part, TargetKind
from api_schemas.results import display, parts, speed
from api_schemas.results.metrics import DataSummary, JobResult, StepMetrics
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import SHARE_OF
from checkpoints.families import Architecture
from worker.engine.report import descriptions
from worker.engine.report.figures import write_figures
from worker.engine.report.style import INK, Plot

REPORT_FILE = "report.html"
_IDS = re.compile(r"""(\bid="|href="#|url\(#)""")
_ROOT = re.compile(r'<svg\b[^>]*?viewBox="(?P<box>[-0-9. ]+)"[^>]*>', re.DOTALL)


def inline_svg(svg: str, plot: Plot) -> Markup:
    """An SVG file's drawing as an element of a page: ids kept apart by figure, text in the page's own colour.

    The drawing is our own, made from numbers; figures contain no user text. ValueError if it is not an SVG.
    """
    root = _ROOT.search(svg)
    if root is None:
        raise ValueError("not an SVG with a view box")
    body = _IDS.sub(rf"\g<1>{plot.name}-", svg[root.end() :]).replace(INK, "currentColor")
    head = Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(root["box"], plot.title)
    return head + Markup(body)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("worker.engine", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        plain=formatting.plain,
        percent=formatting.percent,
        count=formatting.count,
        file_size=formatting.file_size,
        milliseconds=formatting.milliseconds,
    )
    environment.globals.update(
        latency_at=display.latency_at,
        goal=display.goal,
        achieved_written=speed.achieved_written,
        speed_of=speed.speed,
        speed_written=speed.written,
        noise_written=speed.noise,
        timing_caption=speed.CAPTION,
        written=display.written,
        loss_written=display.loss_written,
        removed=parts.removed,
        parameters=parts.parameters,
        part_names=parts.NAMES,
        found_in_words=parts.found_in_words,
        drop_written=parts.drop_written,
    )
    return environment


def _asked(step: StepMetrics, part: Part, spec: EngineSpec) -> str:
    share = parts.asked(step, part, spec.pruning)
    return "–" if share is None else formatting.percent(share)


def _difference(step: StepMetrics, part: Part, spec: EngineSpec) -> str:
    """Of what was removed to the target, in points; a dash for the original."""
    share = parts.asked(step, part, spec.pruning) if step.step else None
    return "–" if share is None else f"{100 * (parts.removed(step, part) - share):+.2f} points"


def write_report(
    folder: Path,
    steps: Sequence[StepMetrics],
    *,
    spec: EngineSpec,
    data: DataSummary,
    title: str,
    architecture: Architecture,
    result: JobResult | None = None,
) -> None:
    """Write report.html and the figures (`figure-*.png`, `figure-*.svg`) into `folder`.

    `steps` begins with step 0, the original model; `result` is the job's, where this step ends it. The same arguments give the
    same bytes. ValueError without steps.
    """
    if not steps:
        raise ValueError("a report needs at least step 0")
    shown = parts.cut_by(spec.pruning)
    plots = write_figures(folder, steps, spec)
    figures = [(plot, inline_svg((folder / f"{plot.file}.svg").read_text(encoding="utf-8"), plot)) for plot in plots]

    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            steps=steps,
            dense=steps[0],
            last=steps[-1],
            spec=spec,
            data=data,
            result=result,
            beyond=descriptions.beyond(steps, result),
            slower=[said for step in steps if (said := speed.slower(step, spec.pruning))],
            method=descriptions.method(spec, steps[-1]),
            parts=shown,
            removed_in_words=parts.removed_in_words(steps[-1], spec.pruning),
            goals=parts.goals_in_words(spec.pruning),
            search=steps[0].search,
            target_name=SHARE_OF[spec.pruning.target.kind],
            # Shares of single parts have their columns in the table of steps.
            other_target=spec.pruning.target.kind not in (TargetKind.ATTENTION_SPARSITY, TargetKind.FFN_SPARSITY),
            asked=partial(_asked, spec=spec),
            difference=partial(_difference, spec=spec),
            # Nothing is asked of a part by itself where the target counts both.
            parts_asked=[
                part for part in shown if any(parts.asked(step, part, spec.pruning) is not None for step in steps)
            ],
            figures=figures,
            metric_name=display.metric_name(steps),
            has_loss=display.has_loss(steps),
            answers=descriptions.answers(architecture, data),
            has_labels=descriptions.has_labels(architecture),
            has_test=any(step.test for step in steps),
            batch_sizes=display.batch_sizes(steps),
            spec_json=spec.model_dump_json(indent=2),
        )
    )
    (folder / REPORT_FILE).write_text(page, encoding="utf-8", newline="\n")
