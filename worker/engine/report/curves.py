"""Lines over a job's steps: quality, speed, loss. Series differ in colour, marker and dash."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api_schemas.enums import Part
from api_schemas.results import parts as cut
from api_schemas.results import speed
from api_schemas.results.display import (
    LEAST_RATIO,
    allowed,
    batch_sizes,
    interval,
    latency_at,
    least_covered,
    loss_curve,
    metric_name,
    noise_band,
)
from api_schemas.results.metrics import Scores, StepMetrics
from api_schemas.spec.job import EngineSpec
from worker.engine.report.style import COLOURS, INK, MARKERS, MUTED, covering, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MARKED = 40
"""More points than this are a line without markers."""


def _value(scores: Scores | None) -> float | None:
    """The task's own metric."""
    found = None if scores is None else scores.headline
    return None if found is None else found.value


def _series(shares: Sequence[float], values: Sequence[float | None]) -> tuple[list[float], list[float]]:
    points = [(100 * share, value) for share, value in zip(shares, values, strict=True) if value is not None]
    return [x for x, _ in points], [y for _, y in points]


def draw_tradeoff(figure: "Figure", steps: Sequence[StepMetrics], spec: EngineSpec) -> None:
    """The task's metric against the sparsity of what is cut, with the original's interval, and the drop that is allowed."""
    parts, original = cut.cut_by(spec.pruning), steps[0].validation
    shares = [cut.together(steps[0], step, parts) for step in steps]
    axes, first = figure.add_subplot(), original.headline
    rate = first is not None and first.rate
    unit = 100.0 if rate else 1.0
    after = [_value(step.validation) for step in steps]
    before = [_value(step.validation_before_recovery) for step in steps]
    test = [_value(step.test) for step in steps]
    drawn = [value for values in (after, before, test) for value in values if value is not None]
    if first is not None:
        axes.axhline(
            unit * first.value, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2, label="original model, validation"
        )
        if (noise := interval(original)) is not None:
            axes.axhspan(unit * noise[0], unit * noise[1], color=MUTED, alpha=0.14, linewidth=0)
            drawn += noise
    bound = None if spec.max_drop is None else allowed(original, spec.max_drop)
    if bound is not None:
        axes.axhline(unit * bound, color=MUTED, linestyle=(0, (7, 2, 1.5, 2)), linewidth=1.2, label="allowed")
        drawn.append(bound)
    lines = [(after, "validation", COLOURS[0], "o", "-"), (test, "test (measured once)", COLOURS[2], "D", "none")]
    if spec.finetune is not None:
        lines[0] = (after, "after recovery, validation", COLOURS[0], "o", "-")
        lines.insert(1, (before, "before recovery, validation", COLOURS[1], "s", "--"))
    for values, label, colour, marker, dash in lines:
        x, y = _series(shares, [None if value is None else unit * value for value in values])
        if x:
            axes.plot(x, y, color=colour, marker=marker, linestyle=dash, label=label)
    axes.set_ylabel(f"{metric_name(steps)} (%)" if rate else metric_name(steps))
    percent_axis(axes, f"{cut.name_of(parts)} parameters removed")
    if drawn:
        bottom, top = covering(drawn, least_covered(steps), share=rate)
        axes.set_ylim(unit * bottom, unit * top)
    axes.legend(loc="best")


def draw_speed(figure: "Figure", steps: Sequence[StepMetrics], parts: Sequence[Part]) -> None:
    """Speed-up, with the interval where it was measured and the point left out where noise covers it, and time an input."""
    ratio, times = figure.subplots(1, 2)
    drawn = [1.0]
    noisy = [
        (100 * cut.together(steps[0], step, parts), *noise) for step in steps if (noise := noise_band(step)) is not None
    ]
    if noisy:
        at, low, high = zip(*noisy, strict=True)
        ratio.fill_between(at, low, high, color=MUTED, alpha=0.14, linewidth=0)
        ratio.vlines(at, low, high, color=MUTED, alpha=0.4, linewidth=1.0)
        drawn += (*low, *high)
    for index, batch_size in enumerate(batch_sizes(steps)):
        timed = [(step, row) for step in steps if (row := latency_at(step, batch_size))]
        x = [100 * cut.together(steps[0], step, parts) for step, _ in timed]
        look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        points = [speed.point(step, row) for step, row in timed]
        shown = [(place, value) for place, value in zip(x, points, strict=True) if value is not None]
        ratio.plot([place for place, _ in shown], [value for _, value in shown], label=f"batch {batch_size}", **look)
        drawn += [value for _, value in shown]
        for place, (step, row) in zip(x, timed, strict=True):
            if step.step:
                ratio.plot([place] * 2, speed.interval(row), color=look["color"], linewidth=1.0, alpha=0.6)
                drawn += speed.interval(row)
        # Milliseconds for one input, so that batch sizes can be compared on one axis.
        median = [row.p50_ms / batch_size for _, row in timed]
        times.plot(x, median, label=f"batch {batch_size}", **look)
        worst = [row.p95_ms / batch_size for _, row in timed]
        times.fill_between(x, median, worst, color=look["color"], alpha=0.18, linewidth=0)
    ratio.axhline(1.0, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
    ratio.set_title("Speed-up")
    ratio.set_ylabel("times as fast as the original")
    ratio.set_ylim(covering(drawn, LEAST_RATIO, share=False))
    times.set_title("Inference time")
    times.set_ylabel("ms per input: median, shaded to p95")
    times.set_ylim(bottom=0)
    for axes in (ratio, times):
        percent_axis(axes, f"{cut.name_of(parts)} parameters removed")
    ratio.legend(loc="best")


def draw_size(figure: "Figure", steps: Sequence[StepMetrics], parts: Sequence[Part]) -> None:
    """Share of the original's parameters, FLOPs and bytes that every step has."""
    axes = figure.add_subplot()
    x = [100 * cut.together(steps[0], step, parts) for step in steps]
    for index, (name, shares) in enumerate(cut.left(steps, parts)):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axes.plot(x, [100 * share for share in shares], label=name, color=colour, marker=marker)
    axes.set_ylabel("of the original (%)")
    axes.set_ylim(bottom=0)
    percent_axis(axes, f"{cut.name_of(parts)} parameters removed")
    axes.legend(loc="best")


def draw_loss(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    """Training loss of every recovery, one after the other, in the parts of epochs that it is known of."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    trained = [step for step in steps if step.losses]
    # Means of whole epochs alone stand in the middle of their bands, and parts at their ends.
    left = 0.0 if any(row.points for step in trained for row in step.losses) else 0.5
    start = left
    for index, step in enumerate(trained):
        curve, end = loss_curve(step.losses), start + len(step.losses)
        look = {"marker": "o"} if len(curve) <= MARKED else {"linewidth": 1.2}
        x = [start - left + epochs for epochs, _ in curve]
        axes.plot(x, [loss for _, loss in curve], color=COLOURS[0], **look)
        axes.axvspan(start, end, color="#9aa5b1", alpha=0.16 if index % 2 else 0.0, linewidth=0)
        if len(trained) <= 20:
            axes.annotate(
                f"step {step.step}" if len(trained) <= 8 else str(step.step),
                ((start + end) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        start = end
    axes.set_xlim(left, start)
    axes.xaxis.set_major_locator(MaxNLocator(integer=start - left > 1, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch of recovery, counted through all steps")
    axes.set_ylabel("mean training loss")
