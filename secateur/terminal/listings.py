"""Lists: jobs, models, datasets, keys."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from api_schemas.access import KeyResource
from api_schemas.resources import DatasetResource, JobResource, ModelResource
from secateur.tables import count, quality
from secateur.terminal.consoles import clean
from secateur.terminal.words import ago, job_state, size, target, upload_state


def jobs_table(jobs: Iterable[JobResource]) -> Table:
    """Newest first, as they come."""
    table = _table("job", "state", "name", "removes", "came to", "made")
    for job in jobs:
        scores = job.result.test if job.result else job.metrics[-1].validation if job.metrics else None
        table.add_row(
            job.id,
            job_state(job),
            clean(job.name or ""),
            target(job.request.pruning.target),
            quality(scores),
            ago(job.created_at),
        )
    return table


def models_table(models: Iterable[ModelResource]) -> Table:
    """Open uploads have no layout yet."""
    table = _table("model", "state", "name", "class", "params", "bytes", "made")
    for model in models:
        layout = model.layout
        table.add_row(
            model.id,
            upload_state(model.state),
            clean(model.name or ""),
            layout.architecture if layout else "",
            count(layout.total_parameters) if layout else "",
            size(sum(file.size for file in model.files)),
            ago(model.created_at),
        )
    return table


def datasets_table(datasets: Iterable[DatasetResource]) -> Table:
    """Open uploads have no contents yet."""
    table = _table("dataset", "state", "name", "kind", "rows", "bytes", "made")
    for dataset in datasets:
        found = dataset.contents
        table.add_row(
            dataset.id,
            upload_state(dataset.state),
            clean(dataset.name or ""),
            found.modality.value if found else "",
            count(sum(found.rows.values())) if found else "",
            size(sum(file.size for file in dataset.files)),
            ago(dataset.created_at),
        )
    return table


def keys_table(keys: Iterable[KeyResource]) -> Table:
    """Without tokens: nobody has them but who was given them."""
    table = _table("key", "state", "name", "scopes", "made", "last used")
    for key in keys:
        state = Text("– revoked", "dim") if key.revoked_at else Text("✓ valid", "green")
        scopes = ", ".join(scope.value for scope in key.scopes)
        table.add_row(key.id, state, clean(key.name or ""), scopes, ago(key.created_at), ago(key.last_used_at))
    return table


def _table(first: str, *others: str) -> Table:
    """The identifier is never cut: it is what the next command needs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold", min_width=30)
    for name in others:
        table.add_column(
            name,
            overflow="ellipsis",
            no_wrap=name != "name",
            justify="right" if name in ("params", "bytes", "rows") else "left",
        )
    return table
