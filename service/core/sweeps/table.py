"""The results of a sweep: one row per job, and the Pareto-optimal jobs."""

from collections.abc import Mapping, Sequence

from api_schemas.api.sweeps import (
    PlannedJob,
    SweepDetail,
    SweepFronts,
    SweepOriginal,
    SweepResource,
    SweepRow,
)
from api_schemas.enums import JobState, SpeedVerdict
from api_schemas.results import speed
from api_schemas.results.metrics import StepMetrics
from store.database.tables import Job, Sweep
from store.jobs import sweeps
from store.jobs.sweeps import Counts


def summary(sweep: Sweep, counts: Counts) -> SweepResource:
    """As it stands in a list."""
    return SweepResource(
        id=sweep.id,
        name=sweep.name,
        state=sweeps.state_of(counts),
        created_at=sweep.created_at,
        max_parallel=sweep.max_parallel,
        jobs=dict(sorted(counts.items())),
    )


def detail(
    sweep: Sweep, counts: Counts, jobs: Sequence[Job], metrics: Mapping[str, Sequence[StepMetrics]]
) -> SweepDetail:
    """`jobs` in order, `metrics` of the committed steps of those that were not deleted."""
    rows = tuple(_row(job, sweep.plan.jobs[job.sweep_index or 0], metrics.get(job.id, ())) for job in jobs)
    measured = [steps[0] for job in jobs if (steps := metrics.get(job.id))]
    headline = next((row.validation.headline for row in rows if row.validation is not None), None)
    return SweepDetail(
        **summary(sweep, counts).model_dump(),
        model=sweep.plan.model,
        dataset=sweep.plan.dataset,
        metric=None if headline is None else headline.name,
        original=_original(measured[0]) if measured else None,
        rows=rows,
        fronts=fronts(rows),
    )


def fronts(rows: Sequence[SweepRow]) -> SweepFronts:
    """Of the rows that have a result."""
    parameters, flops, latency = [], [], []
    for row in rows:
        if row.validation is None or row.size is None:
            continue
        rank = row.validation.rank
        parameters.append((float(row.size.total_parameters), rank, row.job))
        flops.append((float(row.size.flops), rank, row.job))
        if row.latency:
            latency.append((time_share(row), rank, row.job))
    return SweepFronts(parameters=front(parameters), flops=front(flops), latency=front(latency))


def front(points: Sequence[tuple[float, float, str]]) -> tuple[str, ...]:
    """Names of the (cost, rank, name) that no other beats in one and equals in the other; the least cost first."""
    found: list[tuple[float, float, str]] = []
    for cost, rank, name in sorted(points, key=lambda point: (point[0], -point[1])):
        # Earlier points cost the same or less.
        if not found or rank > found[-1][1] or (cost, rank) == found[-1][:2]:
            found.append((cost, rank, name))
    return tuple(name for _, _, name in found)


def time_share(row: SweepRow) -> float:
    """Of a pass at the first batch size, as a share of the original's."""
    first = row.latency[0]
    if not row.step or (first.paired is not None and first.paired.verdict is SpeedVerdict.NOT_MEASURABLE):
        return 1.0
    return 1.0 / speed.ratio(first)


def _original(step: StepMetrics) -> SweepOriginal:
    return SweepOriginal(size=step.size, validation=step.validation, test=step.test, latency=step.latency)


def _row(job: Job, planned: PlannedJob, steps: Sequence[StepMetrics]) -> SweepRow:
    row = SweepRow(
        index=job.sweep_index or 0,
        label=planned.label,
        changes=planned.changes,
        job=job.id,
        state=job.state,
        deleted=job.deleted_at is not None,
        error=job.error,
    )
    if job.state is not JobState.SUCCEEDED or not steps:
        return row
    number = steps[-1].step if job.result is None else job.result.step
    step = next(each for each in steps if each.step == number)
    came_to = {
        "step": number,
        "achieved_sparsity": step.achieved_sparsity,
        "size": step.size,
        "validation": step.validation,
        "test": step.test if job.result is None else job.result.test or step.test,
        "latency": step.latency,
    }
    return row.model_copy(update=came_to)
