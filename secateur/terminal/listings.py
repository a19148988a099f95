"""Lists: jobs, models, datasets, keys, workers. Tables are made for a width: what is less needed goes where there is no room."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from api_schemas.api.access import KeyResource
from api_schemas.api.resources import DatasetResource, JobResource, ModelResource
from api_schemas.api.workers import WorkerResource
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import ago, job_state, memory, size, target, upload_state
from secateur.terminal.metrics import count, quality

T = TypeVar("T")
Column = tuple[str, int, Callable[[T], str | Text]]
"""Header, the width of terminal from which it is shown, and what stands in it."""
_NUMBERS = ("params", "rows", "bytes", "memory", "host's")


def jobs_table(jobs: Iterable[JobResource], width: int) -> Table:
    """Newest first, as they come."""
    columns: list[Column[JobResource]] = [
        ("job", 0, lambda job: job.id),
        ("state", 0, job_state),
        ("name", 70, lambda job: clean(job.name or "")),
        ("removes", 100, lambda job: target(job.request.pruning.target)),
        ("came to", 60, _came_to),
        ("made", 80, lambda job: ago(job.created_at)),
    ]
    return _table(columns, jobs, width)


def models_table(models: Iterable[ModelResource], width: int) -> Table:
    """Open uploads have no layout yet."""
    columns: list[Column[ModelResource]] = [
        ("model", 0, lambda model: model.id),
        ("state", 0, lambda model: upload_state(model.state)),
        ("name", 60, lambda model: clean(model.name or "")),
        ("class", 110, lambda model: model.layout.architecture if model.layout else ""),
        ("params", 70, lambda model: count(model.layout.total_parameters) if model.layout else ""),
        ("bytes", 90, lambda model: size(sum(file.size for file in model.files))),
        ("made", 80, lambda model: ago(model.created_at)),
    ]
    return _table(columns, models, width)


def datasets_table(datasets: Iterable[DatasetResource], width: int) -> Table:
    """Open uploads have no contents yet."""
    columns: list[Column[DatasetResource]] = [
        ("dataset", 0, lambda dataset: dataset.id),
        ("state", 0, lambda dataset: upload_state(dataset.state)),
        ("name", 60, lambda dataset: clean(dataset.name or "")),
        ("kind", 100, lambda dataset: dataset.contents.modality.value if dataset.contents else ""),
        ("rows", 70, lambda dataset: count(sum(dataset.contents.rows.values())) if dataset.contents else ""),
        ("bytes", 90, lambda dataset: size(sum(file.size for file in dataset.files))),
        ("made", 80, lambda dataset: ago(dataset.created_at)),
    ]
    return _table(columns, datasets, width)


def keys_table(keys: Iterable[KeyResource], width: int) -> Table:
    """Without tokens: nobody has them but who was given them."""
    columns: list[Column[KeyResource]] = [
        ("key", 0, lambda key: key.id),
        ("state", 0, lambda key: Text("– revoked", "dim") if key.revoked_at else Text("✓ valid", "green")),
        ("name", 60, lambda key: clean(key.name or "")),
        ("scopes", 110, lambda key: ", ".join(scope.value for scope in key.scopes)),
        ("made", 80, lambda key: ago(key.created_at)),
        ("last used", 90, lambda key: ago(key.last_used_at)),
    ]
    return _table(columns, keys, width)


def workers_table(workers: Iterable[WorkerResource], width: int) -> Table:
    """The last one started first."""
    columns: list[Column[WorkerResource]] = [
        ("worker", 0, lambda worker: clean(worker.name)),
        ("state", 0, _worker_state),
        ("device", 0, lambda worker: worker.device.value if worker.device else "?"),
        ("of", 100, lambda worker: clean(worker.device_name or "")),
        ("memory", 60, lambda worker: memory(worker.device_memory_bytes)),
        ("host's", 80, lambda worker: memory(worker.host_memory_bytes)),
        ("job", 90, lambda worker: worker.job or ""),
        ("since", 110, lambda worker: ago(worker.started_at)),
        ("seen", 70, lambda worker: ago(worker.seen_at)),
    ]
    return _table(columns, workers, width)


def _worker_state(worker: WorkerResource) -> Text:
    if not worker.alive:
        return Text("✗ silent", "red")
    return Text("▶ busy", "cyan") if worker.busy else Text("✓ idle", "green")


def _came_to(job: JobResource) -> str:
    scores = job.result.test if job.result else job.metrics[-1].validation if job.metrics else None
    return quality(scores)


def _table(columns: Sequence[Column[T]], rows: Iterable[T], width: int) -> Table:
    """The identifier is never cut: it is what the next command needs."""
    shown = [column for column in columns if width >= column[1]]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, (name, _, _) in enumerate(shown):
        # Names alone give way.
        long = name == "name"
        table.add_column(
            name,
            overflow="ellipsis" if number else "fold",
            no_wrap=number > 0,
            min_width=4 if long else None if number else min(30, width),
            max_width=40 if long else None,
            justify="right" if name in _NUMBERS else "left",
        )
    for row in rows:
        table.add_row(*(cell(row) for _, _, cell in shown))
    return table
