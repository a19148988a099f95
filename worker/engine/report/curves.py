"""Lines over a job's steps: quality, speed, loss. Series differ in colour, marker and dash."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from api_schemas.enums import Part
from api_schemas.results import parts as cut
from api_schemas.results import speed
from api_schemas.results.display import allowed, batch_sizes, goal, latency_at, metric_name
from api_schemas.results.metrics import Scores, StepMetrics
from worker.engine.report.style import COLOURS, INK, MARKERS, MUTED, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _series(shares: Sequence[float], values: Sequence[float | None]) -> tuple[list[float], list[float]]:
    points = [(100 * share, value) for share, value in zip(shares, values, strict=True) if value is not None]
    return [x for x, _ in points], [y for _, y in points]


def _plotted(scores: Scores | None) -> float | None:
    """The task's own metric; a rate as a number of percent."""
    found = None if scores is None else scores.headline
    return None if found is None else 100 * found.value if found.rate else found.value


def draw_tradeoff(
    figure: "Figure", steps: Sequence[StepMetrics], parts: Sequence[Part], max_drop: float | None
) -> None:
    """The task's metric against the sparsity of what is cut, before and after recovery; and the drop that is allowed."""
    shares = [cut.together(steps[0], step, parts) for step in steps]
    axes = figure.add_subplot()
    first = steps[0].validation.headline
    rate = first is not None and first.rate
    after = [_plotted(step.validation) for step in steps]
    before = [_plotted(step.validation_before_recovery) for step in steps]
    test = [_plotted(step.test) for step in steps]
    if after[0] is not None:
        axes.axhline(after[0], color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2, label="original model, validation")
    bound = None if max_drop is None else allowed(steps[0].validation, max_drop)
    if bound is not None:
        dashes = (0, (7, 2, 1.5, 2))
        axes.axhline(100 * bound if rate else bound, color=MUTED, linestyle=dashes, linewidth=1.2, label="allowed")
    for values, label, colour, marker, dash in (
        (after, "after recovery, validation", COLOURS[0], "o", "-"),
        (before, "before recovery, validation", COLOURS[1], "s", "--"),
        (test, "test (measured once)", COLOURS[2], "D", ""),
    ):
        x, y = _series(shares, values)
        if x:
            axes.plot(x, y, color=colour, marker=marker, linestyle=dash or "none", label=label)
    axes.set_ylabel(f"{metric_name(steps)} (%)" if rate else metric_name(steps))
    percent_axis(axes, f"{cut.name_of(parts)} parameters removed")
    axes.margins(y=0.12)
    axes.legend(loc="best")


def draw_speed(figure: "Figure", steps: Sequence[StepMetrics], parts: Sequence[Part]) -> None:
    """Speed-up, with the interval where it was measured and the point left out where noise covers it, and time an input."""
    ratio, times = figure.subplots(1, 2)
    for index, batch_size in enumerate(batch_sizes(steps)):
        timed = [(step, row) for step in steps if (row := latency_at(step, batch_size))]
        x = [100 * cut.together(steps[0], step, parts) for step, _ in timed]
        look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        points = [speed.point(step, row) for step, row in timed]
        shown = [(place, value) for place, value in zip(x, points, strict=True) if value is not None]
        ratio.plot([place for place, _ in shown], [value for _, value in shown], label=f"batch {batch_size}", **look)
        for place, (step, row) in zip(x, timed, strict=True):
            if step.step:
                ratio.plot([place] * 2, speed.interval(row), color=look["color"], linewidth=1.0, alpha=0.6)
        # Milliseconds for one input, so that batch sizes can be compared on one axis.
        median = [row.p50_ms / batch_size for _, row in timed]
        times.plot(x, median, label=f"batch {batch_size}", **look)
        worst = [row.p95_ms / batch_size for _, row in timed]
        times.fill_between(x, median, worst, color=look["color"], alpha=0.18, linewidth=0)
    ratio.axhline(1.0, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
    ratio.set_title("Speed-up")
    ratio.set_ylabel("times as fast as the original")
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


def draw_reached(figure: "Figure", steps: Sequence[StepMetrics], counted: str) -> None:
    """What every step should have removed and what it has, in the target's own unit."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    numbers = [step.step for step in steps[1:]]
    goals = [goal(step) for step in steps[1:]]
    met = [
        (number, 100 * achieved) for number, (_, achieved) in zip(numbers, goals, strict=True) if achieved is not None
    ]
    axes.plot([number for number, _ in met], [share for _, share in met], color=COLOURS[0], marker="o", label="removed")
    asked = [100 * requested for requested, _ in goals]
    axes.plot(numbers, asked, color=COLOURS[1], marker="s", linestyle="--", label="requested")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(f"{counted} removed (%)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def draw_loss(figure: "Figure", steps: Sequence[StepMetrics]) -> None:
    """Training loss of every epoch of every recovery."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    start = 0
    trained = [step for step in steps if step.losses]
    for index, step in enumerate(trained):
        x = [start + number for number in range(1, len(step.losses) + 1)]
        axes.plot(x, [row.train_loss for row in step.losses], color=COLOURS[0], marker="o")
        axes.axvspan(start + 0.5, x[-1] + 0.5, color="#9aa5b1", alpha=0.16 if index % 2 else 0.0, linewidth=0)
        if len(trained) <= 20:
            axes.annotate(
                f"step {step.step}" if len(trained) <= 8 else str(step.step),
                ((start + 0.5 + x[-1] + 0.5) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        start = x[-1]
    axes.set_xlim(0.5, start + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch of recovery, counted through all steps")
    axes.set_ylabel("mean training loss")
