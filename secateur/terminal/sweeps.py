"""Sweeps: a list of them, and one sweep as a table."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api_schemas.api.sweeps import SweepDetail, SweepResource, SweepRow
from api_schemas.results import display, speed
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import ago, state_sign
from secateur.terminal.metrics import count, percent
from secateur.terminal.tables import ID, Column, shown_id, table

_SHORT = {"parameters": "P", "flops": "F", "latency": "L"}


def sweeps_table(sweeps: Iterable[SweepResource], width: int) -> Table:
    """Newest first, as they come."""
    columns: list[Column[SweepResource]] = [
        Column("sweep", lambda sweep: shown_id(sweep.id, width), least=ID),
        Column("name", lambda sweep: clean(sweep.name or ""), below="sweep", longest=40),
        Column("state", lambda sweep: sweep.state.value),
        Column("created", lambda sweep: ago(sweep.created_at), below="state"),
        Column("jobs", in_words, wraps=True),
    ]
    return table(columns, sweeps, width)


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
        parts.append(Text("front: no other job is as good with fewer Parameters, FLOPs, or a lower Latency", "dim"))
    return Group(*parts)


def _rows(sweep: SweepDetail, width: int) -> Table:
    metric = sweep.metric or "metric"
    quality = f"{metric}, validation"

    def on(row: SweepRow) -> str:
        return " ".join(short for cost, short in _SHORT.items() if row.job in getattr(sweep.fronts, cost))

    columns: list[Column[SweepRow]] = [
        Column("job", lambda row: shown_id(row.job, width - 20), least=ID),
        Column("spec", lambda row: clean(row.label), below="job", wraps=True, least=16),
        Column("state", _state),
        Column("error", lambda row: row.error.code.value if row.error else "", below="state"),
        Column(quality, lambda row: display.written(row.validation) if _done(row) else "", right=True),
        Column(
            f"{metric}, test", lambda row: display.written(row.test) if _done(row) else "", below=quality, right=True
        ),
        Column("removed", lambda row: percent(row.achieved_sparsity or 0.0) if _done(row) else "", right=True),
        Column("params", lambda row: count(row.size.total_parameters) if row.size else "", below="removed", right=True),
        Column("FLOPs", lambda row: count(row.size.flops) if row.size else "", below="removed", right=True),
        Column("speed-up", _speed, right=True, wraps=True, longest=10),
        Column("front", on, below="speed-up", right=True),
    ]
    shown = [column for column in columns if column.header != "error" or any(row.error for row in sweep.rows)]
    return table(shown, sweep.rows, width, bold=lambda row: bool(on(row)), wide=120)


def _state(row: SweepRow) -> Text:
    return Text("deleted", "dim") if row.deleted else state_sign(row.state)


def _done(row: SweepRow) -> bool:
    return row.size is not None and row.achieved_sparsity is not None


def _speed(row: SweepRow) -> str:
    return speed.speed(row.latency[0]).headline if _done(row) and row.latency and row.step else ""
