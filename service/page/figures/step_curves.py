"""Curves over the steps of one job."""

from collections.abc import Iterator, Mapping, Sequence

from api_schemas.api.resources import JobResource
from api_schemas.enums import TERMINAL_STATES, Part
from api_schemas.results import display, parts, speed
from api_schemas.results.display import LEAST_RATIO
from api_schemas.results.events import Loss
from api_schemas.results.metrics import Latency, Scores, StepMetrics
from api_schemas.spec.job import JobRequest
from service.page.figures.types import Curves, Series, Unit

MOST_BY_BATCH = 6
"""Recoveries whose losses are drawn over each other by parts of epochs: as many as there are colours, each up to 200 points."""

Points = tuple[tuple[float, float], ...]
"""(epochs done, training loss)"""


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
    """Every figure that the steps have numbers for: quality, speed, time, size. None of the original alone, which tiles show."""
    steps = job.metrics
    if len(steps) < 2:
        return ()
    cut = parts.cut_by(job.request.pruning)
    return (_tradeoff(steps, cut, job.request), *_speed(steps, cut), _size(steps, cut))


def _over(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> tuple[str, tuple[float, ...], tuple[str, ...]]:
    """What the x axis counts, its values, and the steps' names."""
    x = tuple(parts.together(steps[0], step, cut) for step in steps)
    return f"{parts.name_of(cut)} parameters removed", x, tuple(str(step.step) for step in steps)


def _tradeoff(steps: Sequence[StepMetrics], cut: Sequence[Part], request: JobRequest) -> Curves:
    label, x, rows = _over(steps, cut)
    name, original = display.metric_name(steps), steps[0].validation.headline
    recovered = request.finetune is not None
    after = tuple(value_of(step.validation) for step in steps)
    series = [Series("after recovery, validation" if recovered else "validation", after)]
    before = tuple(value_of(step.validation_before_recovery) for step in steps)
    test = tuple(value_of(step.test) for step in steps)
    if recovered and any(value is not None for value in before):
        series.append(Series("before recovery, validation", before, "dash"))
    if any(value is not None for value in test):
        series.append(Series("test, measured once", test, "dots"))
    caption = (
        f"Each point is a step{', before and after recovery' if recovered else ''}. Steps are chosen on validation."
    )
    if original is not None:
        noise = display.interval(steps[0].validation)
        series.append(Series("original, validation", (original.value,) * len(steps), "level", (noise,) * len(steps)))
        if noise is not None:
            caption += f" Shaded: the 95% interval of the original on its {steps[0].validation.samples:,} samples."
        if request.max_drop is not None:
            bound = display.allowed(steps[0].validation, request.max_drop)
            words = "lowest allowed" if original.higher_is_better else "highest allowed"
            series.append(Series(words, (bound,) * len(steps), "bound"))
    title = f"{capitalised(name)} against {parts.name_of(cut)} sparsity"
    unit = metric_unit(steps)
    least = display.least_covered(steps)
    return Curves("tradeoff", title, caption, label, x, "share", name, unit, tuple(series), rows, least=least)


def _speed(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> list[Curves]:
    label, x, rows = _over(steps, cut)
    sizes = display.batch_sizes(steps)
    if not sizes:
        return []
    timed = {size: [display.latency_at(step, size) for step in steps] for size in sizes}
    ratios = [
        Series(
            f"batch {size}",
            tuple(speed.point(step, row) for step, row in zip(steps, found, strict=True)),
            spans=tuple(span(step, row) for step, row in zip(steps, found, strict=True)),
        )
        for size, found in timed.items()
    ]
    level = Series("original", (1.0,) * len(steps), "level", tuple(map(display.noise_band, steps)))
    return [
        Curves(
            "speed", "Speed-up", f"{speed.CAPTION} Such a step is an interval without a point. Shaded around 1×: the noise.",
            label, x, "share", "times as fast as the original", "ratio", (*ratios, level), rows, least=LEAST_RATIO,
        ),
        Curves(
            "times", "Time per input", "Median of a forward pass, divided by the batch size; the original was timed in the same "
            "rounds.", label, x, "share", "ms per input", "ms", tuple(_times(steps, timed)), rows, from_zero=True,
        ),
    ]  # fmt: skip


def span(step: StepMetrics, row: Latency | None) -> tuple[float, float] | None:
    """The interval of a step's speed-up. The original has none: it is what the others are compared with."""
    return None if row is None or row.paired is None or not step.step else speed.interval(row)


def _times(steps: Sequence[StepMetrics], timed: Mapping[int, Sequence[Latency | None]]) -> Iterator[Series]:
    """The cut model's, and beside it the original's from the same rounds. At step 0 both are the original."""
    for number, (size, found) in enumerate(timed.items()):
        own = tuple(
            None if row is None else (row.p50_ms if step.step else row.dense_p50_ms) / size
            for step, row in zip(steps, found, strict=True)
        )
        yield Series(f"batch {size}", own)
        dense = tuple(None if row is None else row.dense_p50_ms / size for row in found)
        yield Series(f"original, batch {size}", dense, "level", like=2 * number)


def _size(steps: Sequence[StepMetrics], cut: Sequence[Part]) -> Curves:
    label, x, rows = _over(steps, cut)
    series = tuple(Series(name, shares) for name, shares in parts.left(steps, cut))
    caption = "Exact counts of what remains; the file is measured on disk."
    return Curves(
        "size", "What is left of the original", caption, label, x, "share", "of the original", "share", series, rows,
        from_zero=True,
    )  # fmt: skip


def losses(job: JobResource, told: Sequence[Loss] = ()) -> Curves | None:
    """The training loss of every recovery, one over the other, and of one that runs or did not finish (`told`). None where there
    is no curve.

    By parts of epochs, where these are known, the newest `MOST_BY_BATCH` recoveries; else by epochs.
    """
    found = {step.step: display.loss_curve(step.losses) for step in job.metrics if step.losses}
    found |= _without_metrics(job, told)
    if not found:
        return None
    if all(x.is_integer() for curve in found.values() for x, _ in curve):
        return _by_epoch(found)
    newest = dict(list(found.items())[-MOST_BY_BATCH:])
    caption = "Mean over the batches since the previous point, one curve per step."
    if len(newest) < len(found):
        caption += f" The newest {len(newest)} of {len(found)} recoveries; the report and the page of each step show the others."
    return _of_recoveries(newest, caption, "number")


def unfinished(job: JobResource, told: Sequence[Loss]) -> Curves | None:
    """The training loss of the recovery that a job which ended did not finish. None where there is no curve."""
    step, points = max(_without_metrics(job, told).items(), default=(0, ()))
    caption = f"The epochs that step {step} completed before the job ended. "
    return _alone(step, points, "Training loss of the recovery that did not finish", caption)


def recovery(step: StepMetrics) -> Curves | None:
    """The training loss of one recovery. None of a single number, or where nothing was trained."""
    return _alone(step.step, display.loss_curve(step.losses), "Training loss")


def _alone(step: int, points: Points, title: str, begin: str = "") -> Curves | None:
    """`begin`: of its caption."""
    if len(points) < 2:
        return None
    by_epoch = all(x.is_integer() for x, _ in points)
    caption = "Mean over each epoch." if by_epoch else "Mean over the batches since the previous point."
    return _of_recoveries({step: points}, begin + caption, "count" if by_epoch else "number", title)


def _without_metrics(job: JobResource, told: Sequence[Loss]) -> dict[int, Points]:
    """By step, the epochs of recoveries whose steps are not complete."""
    done = {step.step for step in job.metrics}
    # An attempt that went on after another may have told of an epoch again: the last one counts.
    epochs = {
        (loss.step, loss.epoch): display.loss_points(loss.epoch, loss.points or (loss.train_loss,)) for loss in told
    }
    now = job.progress
    if now is not None and now.training is not None and job.state not in TERMINAL_STATES:
        # Progress is written by the second: its epoch may have ended since, and is told of in whole then.
        key = (now.step, now.training.epoch)
        epochs.setdefault(key, display.loss_points(now.training.epoch, now.training.points, now.training.parts))
    found: dict[int, Points] = {}
    for (step, _), points in sorted(epochs.items()):
        if step not in done:
            found[step] = (*found.get(step, ()), *points)
    return found


def _by_epoch(found: Mapping[int, Points]) -> Curves | None:
    """A point per epoch. Where each recovery has one epoch alone, over the steps; of a single one that is no curve, and words
    say it."""
    if max(map(len, found.values())) > 1:
        return _of_recoveries(found, "Mean over each epoch, one curve per step.", "count")
    if len(found) == 1:
        return None
    series = (Series("mean over the epoch", tuple(points[0][1] for points in found.values())),)
    return Curves(
        "loss", "Training loss by step", "Mean over the one epoch of each step's recovery.", "step",
        tuple(map(float, found)), "count", "mean training loss", "number", series,
        tuple(map(str, found)), from_zero=True,
    )  # fmt: skip


def _of_recoveries(
    found: Mapping[int, Points], caption: str, x_unit: Unit, title: str = "Training loss of each recovery"
) -> Curves:
    at = sorted({x for points in found.values() for x, _ in points})
    series = tuple(Series(f"step {step}", tuple(map(dict(points).get, at))) for step, points in found.items())
    return Curves(
        "loss", title, caption, "epoch", tuple(at), x_unit, "mean training loss", "number", series,
        tuple(f"{x:.0f}" if x_unit == "count" else f"{x:.2f}" for x in at), row_name="Epoch", from_zero=True,
    )  # fmt: skip
