"""The type that each command prints with `--json`: `secateur schema COMMAND` and the reference page are made from this table."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from api_schemas.api.access import AuditEntry, KeyResource, NewKey
from api_schemas.api.checkup import Finding
from api_schemas.api.resources import DatasetResource, JobResource, Limits, ModelResource
from api_schemas.api.sweeps import SweepDetail, SweepResource
from api_schemas.api.webhooks import DeliveryResource, WebhookResource, WebhookSecret
from api_schemas.api.workers import WorkerResource
from api_schemas.results.estimate import JobEstimate
from api_schemas.results.events import JobEvent
from secateur import documents

OUTPUTS: dict[str, Any] = {
    "submit": JobResource,
    "rerun": JobResource,
    "estimate": JobEstimate,
    "sweep": SweepDetail,
    "sweeps": list[SweepResource],
    "wait": list[JobResource],
    "jobs": list[JobResource],
    "models": list[ModelResource],
    "datasets": list[DatasetResource],
    "show": JobResource | SweepDetail | ModelResource | DatasetResource,
    "compare": list[documents.ComparedJob],
    "limits": Limits,
    "download": documents.Download,
    "open": documents.PageAddress,
    "logs": documents.LogLine,
    "events": JobEvent,
    "cancel": list[JobResource | SweepDetail],
    "pause": list[JobResource | SweepDetail],
    "resume": list[JobResource | SweepDetail],
    "delete": list[documents.Deleted],
    "upload model": ModelResource,
    "upload dataset": DatasetResource,
    "keys create": NewKey,
    "keys list": list[KeyResource],
    "keys revoke": KeyResource,
    "audit": list[AuditEntry],
    "webhooks create": WebhookSecret,
    "webhooks list": list[WebhookResource],
    "webhooks update": WebhookResource,
    "webhooks ping": DeliveryResource,
    "webhooks deliveries": list[DeliveryResource],
    "webhooks redeliver": DeliveryResource,
    "webhooks rotate": WebhookSecret,
    "webhooks delete": documents.Deleted,
    "login": documents.SignedIn,
    "logout": documents.SignedOut,
    "profiles": list[documents.SavedService],
    "prune": documents.PruneOutput,
    "convert": documents.Converted,
    "up": documents.Started,
    "doctor": list[Finding],
    "version": documents.Version,
    "workers": list[WorkerResource],
}
LINES = frozenset({"logs", "events"})
"""These print a document per line, the others one document."""


@cache
def output_schema(command: str, template: str = "#/$defs/{model}") -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document of `command`, with references to named types by `template`."""
    return schema_of(OUTPUTS[command], template)


def schema_of(kind: Any, template: str = "#/$defs/{model}") -> dict[str, Any]:
    """That of a type, as it is written."""
    return TypeAdapter(kind).json_schema(mode="serialization", ref_template=template)
