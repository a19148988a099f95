"""The picture beside a job's answer: the remaining share of the original's bytes, FLOPs, time and quality."""

from collections.abc import Callable, Iterator

from api_schemas import formatting
from api_schemas.api.resources import JobResource
from api_schemas.enums import SpeedVerdict
from api_schemas.results import answer, speed
from api_schemas.results.metrics import Latency, StepMetrics
from service.page.figures.types import Bar

MOST = 2.0
"""A bar ends at twice the original, however much more it is."""


def left(job: JobResource, chosen: StepMetrics) -> tuple[Bar, ...]:
    """The chosen step beside the original."""
    original = job.metrics[0]
    bars = [
        _counted("File", original.size.file_bytes, chosen.size.file_bytes, formatting.file_size),
        _counted("Parameters", original.size.total_parameters, chosen.size.total_parameters, formatting.count),
        _counted("FLOPs per input", original.size.flops, chosen.size.flops, formatting.count),
    ]
    if chosen.latency and chosen.step:
        bars.append(_timed(chosen.latency[0]))
    return (*bars, *_quality(job, chosen))


def scale(bars: tuple[Bar, ...]) -> float:
    """What the whole width stands for, as a share of the original."""
    return min(MOST, max(1.0, *(max(bar.share, bar.span[1] if bar.span else 0.0) for bar in bars)))


def _counted(name: str, before: int, after: int, write: Callable[[int], str]) -> Bar:
    return Bar(name, write(before), write(after), after / before if before else 0.0)


def _timed(row: Latency) -> Bar:
    """By the paired ratio, which the load of the machine does not move."""
    low, high = speed.interval(row)
    name, before = f"Time, batch {row.batch_size}", formatting.milliseconds(row.dense_p50_ms)
    span = (1.0 / high, 1.0 / low) if row.paired is not None and low > 0 else None
    if row.paired is not None and row.paired.verdict is SpeedVerdict.NOT_MEASURABLE:
        return Bar(name, before, "no measurable change", 1.0, span)
    share = 1.0 / speed.ratio(row)
    return Bar(name, before, formatting.milliseconds(row.dense_p50_ms * share), share, span)


def _quality(job: JobResource, chosen: StepMetrics) -> Iterator[Bar]:
    split = answer.compared(job.metrics[0], chosen, job.result)
    before, after = split.before.headline, split.after.headline
    if before is not None and after is not None and before.value > 0:
        name = before.name[0].upper() + before.name[1:]
        yield Bar(f"{name}, {split.name}", before.text, after.text, max(0.0, after.value / before.value))
