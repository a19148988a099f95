"""A sweep's jobs as points: the metric on validation against cost, and the Pareto front."""

from collections.abc import Callable

from api_schemas import formatting
from api_schemas.api.sweeps import SweepDetail, SweepRow
from api_schemas.results.display import LEAST_SHARE
from service.core.sweeps import table
from service.page.figures.step_curves import capitalised, value_of
from service.page.figures.types import Curves, Series, Unit

Cost = Callable[[SweepRow], float | None]


def figures(sweep: SweepDetail) -> tuple[Curves, ...]:
    """One for each cost that was measured of any job; none before a job has succeeded."""
    original = sweep.original
    if sweep.metric is None or original is None:
        return ()
    size = original.size
    costs: tuple[tuple[str, str, Cost], ...] = (
        (
            "parameters",
            "parameters left",
            lambda row: row.size.total_parameters / size.total_parameters if row.size else None,
        ),
        ("flops", "FLOPs left", lambda row: row.size.flops / size.flops if row.size else None),
        (
            "latency",
            "time of a pass, share of the original's",
            lambda row: table.time_share(row) if row.latency else None,
        ),
    )
    made = (_figure(sweep, name, label, cost, getattr(sweep.fronts, name)) for name, label, cost in costs)
    return tuple(figure for figure in made if figure.x)


def _figure(sweep: SweepDetail, name: str, label: str, cost: Cost, front: tuple[str, ...]) -> Curves:
    """Where several jobs cost the same, the best of them is drawn; the table of the page has all."""
    metric, headline = sweep.metric or "", next((row.validation.headline for row in sweep.rows if row.validation), None)
    assert headline is not None
    better = max if headline.higher_is_better else min
    drawn: dict[bool, dict[float, float]] = {True: {}, False: {}}
    for row in sweep.rows:
        at, value = cost(row), value_of(row.validation)
        if at is not None and value is not None:
            points = drawn[row.job in front]
            points[at] = better(points.get(at, value), value)
    x = tuple(sorted({*drawn[True], *drawn[False]}))
    unit: Unit = "share" if headline.rate else "number"
    series = [Series("Pareto-optimal", tuple(map(drawn[True].get, x)))]
    if drawn[False]:
        series.append(Series("dominated", tuple(map(drawn[False].get, x)), "dots"))
    title = f"{capitalised(metric)} against {name}" if name != "flops" else f"{capitalised(metric)} against FLOPs"
    rows = tuple(formatting.percent(each) for each in x)
    return Curves(
        name,
        title,
        "",
        label,
        x,
        "share",
        metric,
        unit,
        tuple(series),
        rows,
        row_name="Remaining",
        least=LEAST_SHARE if headline.rate else 0.0,
    )
