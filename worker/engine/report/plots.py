"""Which figures a job's steps have data for, in the order of the page, and the text beside each."""

from collections.abc import Iterator, Sequence

from api_schemas.enums import Part
from api_schemas.results import parts as cut
from api_schemas.results.display import batch_sizes, interval, metric_name
from api_schemas.results.metrics import Sensitivity, StepMetrics
from api_schemas.spec.job import EngineSpec
from worker.engine.report.curves import draw_loss, draw_size, draw_speed, draw_tradeoff
from worker.engine.report.heatmaps import draw_heads, draw_layers, draw_sensitivity
from worker.engine.report.style import Drawing, Plot

_WIDTH = 7.4
_WHAT = {
    (Part.ATTENTION,): "channels",
    (Part.FEED_FORWARD,): "neurons",
    (Part.ATTENTION, Part.FEED_FORWARD): "channels, and of its neurons,",
}


_LOSS_OF = {True: "Mean over the batches since the previous point", False: "Mean of every epoch"}


def _tradeoff_caption(original: StepMetrics, *, recovered: bool) -> str:
    points = f"Each point is a step{', before and after recovery' if recovered else ''}."
    noise = ""
    if interval(original.validation) is not None:
        noise = f" Shaded: its 95% interval on its {original.validation.samples:,} samples."
    return f"{points} Steps are chosen on validation. The dashed line is the original model.{noise}"


def _removed_in_fact(found: Sensitivity) -> str:
    """A sentence where a layer's structures do not divide as finely as the shares asked for."""
    columns = list(zip(*(layer.removed for layer in found.layers), strict=True))
    worst = max(
        (abs(r - share) for share, column in zip(found.shares, columns, strict=True) for r in column), default=0
    )
    if worst < 0.02:
        return ""
    spans = [f"{100 * min(column):.0f} to {100 * max(column):.0f}%" for column in columns]
    return f" Only whole structures can be removed: actually removed were {', '.join(spans)}."


def _sensitivity(found: Sensitivity, name: str, *, higher: bool) -> Plot:
    loss = ""
    if found.dense_cross_entropy is not None:
        loss = f", where the original has a cross entropy of {found.dense_cross_entropy:.3f}"
    return Plot(
        "sensitivity",
        "What cutting each layer alone would cost",
        f"Before the first step: one layer is cut with the job's settings, the others are unchanged, without recovery; on "
        f"{found.samples} validation samples{loss}. "
        f"Brighter means a higher cost.{_removed_in_fact(found)}",
        Drawing(
            (_WIDTH, 1.3 + min(0.29 * len(found.layers), 12.0)),
            lambda figure: draw_sensitivity(figure, found, name, higher_is_better=higher),
        ),
    )


def available(steps: Sequence[StepMetrics], spec: EngineSpec) -> Iterator[Plot]:
    """The figures these steps have data for.

    `steps` begins with the original model (step 0).
    """
    parts = cut.cut_by(spec.pruning)
    layers = len(steps[0].widths.layers)
    name = metric_name(steps)
    yield Plot(
        "tradeoff",
        f"{name.capitalize() if name.islower() else name} against {cut.name_of(parts)} sparsity",
        _tradeoff_caption(steps[0], recovered=spec.finetune is not None),
        Drawing((_WIDTH, 3.7), lambda figure: draw_tradeoff(figure, steps, spec)),
    )
    if batch_sizes(steps):
        yield Plot(
            "speed",
            f"Speed against {cut.name_of(parts)} sparsity",
            "Above 1 is faster than the original. Thin lines are intervals; the point is left out if it is within timing noise. "
            "Shaded around 1: that noise.",
            Drawing((_WIDTH, 3.4), lambda figure: draw_speed(figure, steps, parts)),
        )
    if len(steps) > 1:
        yield Plot(
            "size",
            "What is left of the original",
            "Exact counts at every step; the file is its size on disk.",
            Drawing((_WIDTH, 3.2), lambda figure: draw_size(figure, steps, parts)),
        )
    if steps[0].sensitivity is not None:
        headline = steps[0].validation.headline
        yield _sensitivity(steps[0].sensitivity, name, higher=headline is None or headline.higher_is_better)
    if len(steps) > 1:
        yield Plot(
            "layers",
            "Sparsity of every layer after each step",
            f"One row per step, one column per layer (counted from 0): the share of its {_WHAT[tuple(parts)]} that was removed.",
            Drawing((_WIDTH, 1.3 + min(0.3 * len(steps), 9.0)), lambda figure: draw_layers(figure, steps, parts)),
        )
    if len(steps) > 1 and Part.ATTENTION in parts:
        yield Plot(
            "heads",
            f"Sparsity of every head after step {steps[-1].step}",
            "One row per layer, one column per head, numbered as in the original: the share of its QK and of its VO channels "
            "that was removed. 100 means that the whole head was removed.",
            Drawing((_WIDTH, 1.3 + min(0.29 * layers, 12.0)), lambda figure: draw_heads(figure, steps)),
        )
    if any(step.losses for step in steps):
        yield Plot(
            "loss",
            "Training loss of each recovery",
            f"{_LOSS_OF[any(row.points for step in steps for row in step.losses)]}; each band is one step.",
            Drawing((_WIDTH, 3.2), lambda figure: draw_loss(figure, steps)),
        )
