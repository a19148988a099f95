"""Curves of several jobs over each other."""

from collections.abc import Callable, Sequence

from api_schemas import formatting
from api_schemas.api.resources import JobResource
from api_schemas.results import display, parts, speed
from api_schemas.results.display import LEAST_RATIO, LEAST_SHARE
from api_schemas.results.metrics import StepMetrics
from service.page.figures.step_curves import capitalised, metric_unit, span, value_of
from service.page.figures.types import Curves, Series, Unit


def names(jobs: Sequence[JobResource]) -> tuple[str, ...]:
    """What each is called: its name, with the end of its id where two would be called alike, or it has none."""
    given = [formatting.plain(job.name) if job.name else "" for job in jobs]
    return tuple(
        name if name and given.count(name) == 1 else f"{name or 'job'} …{job.id[-6:]}"
        for name, job in zip(given, jobs, strict=True)
    )


def comparison(jobs: Sequence[JobResource]) -> tuple[Curves, ...]:
    """Quality, speed and size against what was removed. Jobs without a step are left out; nothing where none has one."""
    begun = [(name, job) for name, job in zip(names(jobs), jobs, strict=True) if job.metrics]
    if not begun:
        return ()
    first = begun[0][1].metrics
    measured = sorted({display.metric_name(job.metrics) for _, job in begun})
    unit = metric_unit(first) if len({metric_unit(job.metrics) for _, job in begun}) == 1 else "number"
    label = " or ".join(measured)
    made = [
        _figure(
            "tradeoff",
            f"{capitalised(label)}, validation",
            label,
            unit,
            begun,
            lambda step: value_of(step.validation),
            least=LEAST_SHARE if unit == "share" else 0.0,
        ),
        _figure(
            "size",
            "File size",
            "of the original",
            "share",
            begun,
            lambda step: float(step.size.file_bytes),
            relative=True,
        ),
        _figure(
            "flops",
            "FLOPs per input",
            "of the original",
            "share",
            begun,
            lambda step: float(step.size.flops),
            relative=True,
        ),
    ]
    sizes = set.intersection(*(set(display.batch_sizes(job.metrics)) for _, job in begun))
    for size in sorted(sizes, reverse=True):

        def times(step: StepMetrics, size: int = size) -> float | None:
            return speed.point(step, display.latency_at(step, size))

        def interval(step: StepMetrics, size: int = size) -> tuple[float, float] | None:
            return span(step, display.latency_at(step, size))

        title = f"Speed-up at batch {size}"
        made.insert(
            1,
            _figure(
                f"speed-{size}", title, "times as fast", "ratio", begun, times, least=LEAST_RATIO, span_of=interval
            ),
        )
    return tuple(made)


def _figure(
    name: str, title: str, y_label: str, unit: Unit, jobs: Sequence[tuple[str, JobResource]],
    value: Callable[[StepMetrics], float | None], *, relative: bool = False, least: float = 0.0,
    span_of: Callable[[StepMetrics], tuple[float, float] | None] | None = None,
) -> Curves:  # fmt: skip
    """Over the union of all x; each job has values at its own, and intervals by `span_of`. `relative`: to its own step 0."""
    cuts = {parts.cut_by(job.request.pruning) for _, job in jobs}
    found: list[tuple[str, dict[float, float | None]]] = []
    spans: list[dict[float, tuple[float, float] | None]] = []
    for called, job in jobs:
        whole = (value(job.metrics[0]) or 1.0) if relative else 1.0
        points: dict[float, float | None] = {}
        for step in job.metrics:
            measured = value(step)
            points[_removed(job, step, same=len(cuts) == 1)] = None if measured is None else measured / whole
        found.append((called, points))
        if span_of is not None:
            spans.append({_removed(job, step, same=len(cuts) == 1): span_of(step) for step in job.metrics})
    x = tuple(sorted({place for _, points in found for place in points}))
    series = tuple(
        Series(
            called,
            tuple(points.get(place) for place in x),
            spans=tuple(spans[number].get(place) for place in x) if spans else (),
        )
        for number, (called, points) in enumerate(found)
    )
    caption = "With 95% intervals. A step whose speed-up is not measurable is an interval without a point."
    label = f"{parts.name_of(next(iter(cuts)))} parameters removed" if len(cuts) == 1 else "of all parameters removed"
    rows = tuple(formatting.percent(place) for place in x)
    return Curves(
        name,
        title,
        caption if spans else "",
        label,
        x,
        "share",
        y_label,
        unit,
        series,
        rows,
        row_name="Removed",
        from_zero=relative,
        least=least,
    )


def _removed(job: JobResource, step: StepMetrics, *, same: bool) -> float:
    """Of what is cut where all jobs cut the same parts, of the whole model otherwise."""
    if same:
        return parts.together(job.metrics[0], step, parts.cut_by(job.request.pruning))
    return 1.0 - step.size.total_parameters / job.metrics[0].size.total_parameters
