"""Curves over the steps of one job."""

from collections.abc import Sequence
from itertools import zip_longest

from api_schemas.api.resources import JobResource
from api_schemas.enums import Part
from api_schemas.results import display, parts, speed
from api_schemas.results.metrics import Scores, StepMetrics
from api_schemas.spec.job import JobRequest
from api_schemas.spec.pruning import SHARE_OF
from service.page.figures.types import Curves, Series, Unit


def value_of(scores: Scores | None) -> float | None:
    """The task's own metric of one split."""
    found = None if scores is None else scores.headline
    return None if found is None else found.value


def metric_unit(steps: Sequence[StepMetrics]) -> Unit:
    """Whether the metric is a rate."""
    first = steps[0].validation.headline
    return "share" if first is not None and first.rate else "number"


def capitalised(name: str) -> str:
    """`Accuracy`; names with capitals of their own (WER, mAP) stay."""
    return name.capitalize() if name.islower() else name


def curves(job: JobResource) -> tuple[Curves, ...]:
    """Every figure that the steps have numbers for: quality, speed, time, size, how near the target."""
    steps = job.metrics
    if not steps:
        return ()
    cut = parts.cut_by(job.request.pruning)
    made = [_tradeoff(steps, cut, job.request), *_speed(steps, cut), _size(steps, cut)]
    if len(steps) > 1:
        made.append(_reached(steps, job.request))
    return tuple(made)


def _over(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> tuple[str, tuple[float, ...], tuple[str, ...]]:
    """What the x axis counts, its values, and the steps' names."""
    x = tuple(parts.together(steps[0], step, cut) for step in steps)
    return f"{parts.name_of(cut)} parameters removed", x, tuple(str(step.step) for step in steps)


def _tradeoff(steps: Sequence[StepMetrics], cut: Sequence[Part], request: JobRequest) -> Curves:
    label, x, rows = _over(steps, cut)
    name, original = display.metric_name(steps), steps[0].validation.headline
    series = [Series("after recovery, validation", tuple(value_of(step.validation) for step in steps))]
    before = tuple(value_of(step.validation_before_recovery) for step in steps)
    test = tuple(value_of(step.test) for step in steps)
    if any(value is not None for value in before):
        series.append(Series("before recovery, validation", before, "dash"))
    if any(value is not None for value in test):
        series.append(Series("test, measured once", test, "dots"))
    if original is not None:
        series.append(Series("original, validation", (original.value,) * len(steps), "level"))
        if request.max_drop is not None:
            bound = display.allowed(steps[0].validation, request.max_drop)
            words = "lowest allowed" if original.higher_is_better else "highest allowed"
            series.append(Series(words, (bound,) * len(steps), "bound"))
    title = f"{capitalised(name)} against {parts.name_of(cut)} sparsity"
    caption = "Each point is a step: right after the cut, and after recovery. Decisions are made on validation."
    return Curves("tradeoff", title, caption, label, x, "share", name, metric_unit(steps), tuple(series), rows)


def _speed(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> list[Curves]:
    label, x, rows = _over(steps, cut)
    sizes = display.batch_sizes(steps)
    if not sizes:
        return []
    timed = {size: [display.latency_at(step, size) for step in steps] for size in sizes}
    ratios = [
        Series(f"batch {size}", tuple(speed.point(step, row) for step, row in zip(steps, found, strict=True)))
        for size, found in timed.items()
    ]
    times = [
        Series(f"batch {size}", tuple(None if row is None else row.p50_ms / size for row in found))
        for size, found in timed.items()
    ]
    level = Series("original", (1.0,) * len(steps), "level")
    return [
        Curves(
            "speed", "Speed-up", f"{speed.CAPTION} Such a step has no point.",
            label, x, "share", "times as fast as the original", "ratio", (*ratios, level), rows,
        ),
        Curves(
            "times", "Inference time by step", "Median of a forward pass, divided by the batch size.",
            label, x, "share", "ms an input", "ms", tuple(times), rows, from_zero=True,
        ),
    ]  # fmt: skip


def _size(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> Curves:
    label, x, rows = _over(steps, cut)
    series = tuple(Series(name, shares) for name, shares in parts.left(steps, cut))
    caption = "Exact counts of what is left; the file is what lies on disk."
    return Curves(
        "size", "What is left of the original", caption, label, x, "share", "of the original", "share", series, rows,
        from_zero=True,
    )  # fmt: skip


def _reached(steps: Sequence[StepMetrics], request: JobRequest) -> Curves:
    """In the target's own unit."""
    goals = [display.goal(step) for step in steps[1:]]
    numbers = tuple(step.step for step in steps[1:])
    asked, got = tuple(goal[0] for goal in goals), tuple(goal[1] for goal in goals)
    series = (Series("removed", got), Series("asked for", asked, "dash"))
    caption = "Cuts are whole structures: the nearest to what was asked for is taken."
    return Curves(
        "reached", "Asked for and removed", caption, "step", tuple(map(float, numbers)), "count",
        f"{SHARE_OF[request.pruning.target.kind]} removed", "share", series, tuple(map(str, numbers)), from_zero=True,
    )  # fmt: skip


def losses(job: JobResource) -> Curves | None:
    """The training loss of every recovery, one over the other. None where nothing was trained."""
    trained = [step for step in job.metrics if step.losses]
    if not trained:
        return None
    by_epoch = zip_longest(*([row.train_loss for row in step.losses] for step in trained))
    columns = list(zip(*by_epoch, strict=True))
    series = tuple(Series(f"step {step.step}", tuple(column)) for step, column in zip(trained, columns, strict=True))
    epochs = max(len(step.losses) for step in trained)
    return Curves(
        "loss", "Training loss of each recovery", "Mean loss of every epoch, one curve a step.", "epoch",
        tuple(map(float, range(1, epochs + 1))), "count", "mean training loss", "number", series,
        tuple(map(str, range(1, epochs + 1))), row_name="Epoch", from_zero=True,
    )  # fmt: skip
