"""Lists: jobs, models, datasets, keys, workers."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from api_schemas.api.access import AuditEntry, KeyResource
from api_schemas.api.resources import DatasetResource, JobResource, ModelResource
from api_schemas.api.webhooks import DeliveryResource, WebhookResource
from api_schemas.api.workers import WorkerResource
from api_schemas.results.metrics import StepMetrics
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import ago, clock, job_state, memory, size, target, upload_state
from secateur.terminal.metrics import count, labelled
from secateur.terminal.tables import ID, Column, shown_id, table

_NAME = 40


def jobs_table(jobs: Iterable[JobResource], width: int) -> Table:
    """Newest first, as they come. The figures are those of the page: of the result's step, else of the last."""
    columns: list[Column[JobResource]] = [
        Column("job", lambda job: shown_id(job.id, width), least=ID),
        Column("name", lambda job: clean(job.name or ""), below="job", longest=_NAME),
        Column("state", job_state),
        Column("created", lambda job: ago(job.created_at), below="state"),
        Column("target", lambda job: target(job.request.pruning.target), wraps=True),
        Column("validation", lambda job: labelled(_shown(job).validation if job.metrics else None)),
        Column(
            "original", lambda job: labelled(job.metrics[0].validation if job.metrics else None), below="validation"
        ),
    ]
    return table(columns, jobs, width)


def _shown(job: JobResource) -> StepMetrics:
    if job.result is not None:
        return next((step for step in job.metrics if step.step == job.result.step), job.metrics[-1])
    return job.metrics[-1]


def models_table(models: Iterable[ModelResource], width: int) -> Table:
    """Open uploads have no layout yet."""
    columns: list[Column[ModelResource]] = [
        Column("model", lambda model: shown_id(model.id, width), least=ID),
        Column("name", lambda model: clean(model.name or ""), below="model", longest=_NAME),
        Column("state", lambda model: upload_state(model.state)),
        Column("created", lambda model: ago(model.created_at), below="state"),
        Column("class", lambda model: model.layout.architecture if model.layout else "", wraps=True),
        Column("params", lambda model: count(model.layout.total_parameters) if model.layout else "", right=True),
        Column("files", lambda model: size(sum(file.size for file in model.files)), below="params", right=True),
    ]
    return table(columns, models, width)


def datasets_table(datasets: Iterable[DatasetResource], width: int) -> Table:
    """Open uploads have no contents yet."""
    columns: list[Column[DatasetResource]] = [
        Column("dataset", lambda dataset: shown_id(dataset.id, width), least=ID),
        Column("name", lambda dataset: clean(dataset.name or ""), below="dataset", longest=_NAME),
        Column("state", lambda dataset: upload_state(dataset.state)),
        Column("created", lambda dataset: ago(dataset.created_at), below="state"),
        Column("kind", lambda dataset: dataset.contents.modality.value if dataset.contents else ""),
        Column("rows", _rows, right=True),
        Column("files", lambda dataset: size(sum(file.size for file in dataset.files)), below="rows", right=True),
    ]
    return table(columns, datasets, width)


def _rows(dataset: DatasetResource) -> str:
    return count(sum(dataset.contents.rows.values())) if dataset.contents else ""


def keys_table(keys: Iterable[KeyResource], width: int) -> Table:
    """Without tokens, which only their owners have. Ids are not shortened, because `revoke` needs them."""
    columns: list[Column[KeyResource]] = [
        Column("key", lambda key: key.id),
        Column("name", lambda key: clean(key.name or ""), below="key", longest=_NAME),
        Column("state", lambda key: Text("– revoked", "dim") if key.revoked_at else Text("✓ valid", "green")),
        Column("scopes", lambda key: ", ".join(scope.value for scope in key.scopes), wraps=True),
        Column("created", lambda key: ago(key.created_at)),
        Column("last used", lambda key: ago(key.last_used_at), below="created"),
    ]
    return table(columns, keys, width)


def workers_table(workers: Iterable[WorkerResource], width: int) -> Table:
    """The last one started first."""
    columns: list[Column[WorkerResource]] = [
        Column("worker", lambda worker: clean(worker.name)),
        Column("model", lambda worker: clean(worker.device_name or ""), below="worker"),
        Column("state", _worker_state),
        Column("seen", lambda worker: ago(worker.seen_at), below="state"),
        Column("device", lambda worker: worker.device.value if worker.device else "?"),
        Column("memory", lambda worker: memory(worker.device_memory_bytes), below="device"),
        Column("host memory", lambda worker: memory(worker.host_memory_bytes)),
        Column("started", lambda worker: ago(worker.started_at), below="host memory"),
        Column("job", lambda worker: shown_id(worker.job or "", width)),
    ]
    return table(columns, workers, width)


def _worker_state(worker: WorkerResource) -> Text:
    if not worker.alive:
        return Text("✗ silent", "red")
    return Text("▶ busy", "cyan") if worker.busy else Text("✓ idle", "green")


def webhooks_table(webhooks: Iterable[WebhookResource], width: int) -> Table:
    """Ids are whole: the other commands need them."""
    columns: list[Column[WebhookResource]] = [
        Column("webhook", lambda hook: hook.id),
        Column("url", lambda hook: clean(hook.url), below="webhook", wraps=True),
        Column("state", _webhook_state),
        Column("created", lambda hook: ago(hook.created_at), below="state"),
        Column("events", lambda hook: ", ".join(each.value for each in hook.events), wraps=True),
    ]
    return table(columns, webhooks, width)


def _webhook_state(hook: WebhookResource) -> Text:
    if not hook.enabled:
        return Text(f"– disabled{f': {clean(hook.disabled_reason)}' if hook.disabled_reason else ''}", "red")
    return (
        Text(f"✗ failing since {clock(hook.failing_since)}", "yellow")
        if hook.failing_since
        else Text("✓ working", "green")
    )


def deliveries_table(deliveries: Iterable[DeliveryResource], width: int) -> Table:
    """Newest first, as they come."""
    columns: list[Column[DeliveryResource]] = [
        Column("delivery", lambda each: each.id),
        Column("event", lambda each: each.type, below="delivery"),
        Column("state", lambda each: each.state.value),
        Column(
            "response", lambda each: clean(str(each.last_status or each.last_error or "")), below="state", wraps=True
        ),
        Column("tries", lambda each: str(each.attempts), right=True),
        Column("created", lambda each: clock(each.created_at)),
    ]
    return table(columns, deliveries, width)


def audit_table(entries: Iterable[AuditEntry], width: int) -> Table:
    """Newest first, as they come."""
    columns: list[Column[AuditEntry]] = [
        Column("when", lambda entry: clock(entry.created_at)),
        Column("key", lambda entry: entry.key_id or "the operator", below="when"),
        Column("action", lambda entry: entry.action, wraps=True),
        Column("on", lambda entry: shown_id(entry.object_id or "", width), below="action", wraps=True),
        Column("outcome", lambda entry: entry.outcome.value),
    ]
    return table(columns, entries, width)
