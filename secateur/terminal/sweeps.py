"""Sweeps: a list of them, and one as a table."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api_schemas.api.sweeps import SweepDetail, SweepResource, SweepRow
from api_schemas.results import display, speed
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import ago, state_sign
from secateur.terminal.metrics import count, percent

_SHORT = {"parameters": "P", "flops": "F", "latency": "L"}


def sweeps_table(sweeps: Iterable[SweepResource]) -> Table:
    """Newest first, as they come."""
    table = Table("sweep", "state", "name", "jobs", "made", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for sweep in sweeps:
        table.add_row(sweep.id, sweep.state.value, clean(sweep.name or ""), in_words(sweep), ago(sweep.created_at))
    return table


def in_words(sweep: SweepResource) -> str:
    """`3 queued, 1 running`."""
    return ", ".join(f"{number} {state.value}" for state, number in sweep.jobs.items())


def sweep_page(sweep: SweepDetail, width: int) -> Group:
    """How it stands, and a row a job; what stands on a front is bold. `width`: of the terminal."""
    title = Text.assemble((sweep.id, "bold"), f"  {clean(sweep.name or '')}  {sweep.state.value}: {in_words(sweep)}")
    parts: list[RenderableType] = [title]
    if (original := sweep.original) is not None:
        size = f"{count(original.size.total_parameters)} parameters, {count(original.size.flops)} FLOPs"
        parts.append(f"original: {display.written(original.validation)} on validation, {size}")
    parts += [Text(""), _rows(sweep, width)]
    if any(sweep.fronts.model_dump().values()):
        parts.append(Text("front: no other job is as good for fewer Parameters, FLOPs, or a lower Latency", "dim"))
    return Group(*parts)


def _rows(sweep: SweepDetail, width: int) -> Table:
    metric = sweep.metric or "metric"
    wide = width >= 100
    names = (
        "spec",
        "state",
        metric,
        "test",
        "gone",
        "params",
        "FLOPs",
        "speed-up",
        "front",
        *(["job"] if wide else []),
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(
            name, justify="left" if name in ("spec", "state", "front", "job") else "right", no_wrap=name == "job"
        )
    for row in sweep.rows:
        on = [short for cost, short in _SHORT.items() if row.job in getattr(sweep.fronts, cost)]
        cells: Sequence[str | Text] = (
            clean(row.label),
            Text("deleted", "dim") if row.deleted else state_sign(row.state),
            *_came_to(row),
            " ".join(on),
            *([row.job] if wide else []),
        )
        table.add_row(*cells, style="bold" if on else None)
    return table


def _came_to(row: SweepRow) -> tuple[str, ...]:
    if row.size is None or row.achieved_sparsity is None:
        return (row.error.code.value if row.error else "", "", "", "", "", "")
    fast = speed.speed(row.latency[0]).headline if row.latency and row.step else ""
    return (
        display.written(row.validation),
        display.written(row.test),
        percent(row.achieved_sparsity),
        count(row.size.total_parameters),
        count(row.size.flops),
        fast,
    )
