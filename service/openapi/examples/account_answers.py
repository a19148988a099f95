"""Example responses beside those of the main job: files in pieces, webhooks, keys, the audit log, the service itself."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from api_schemas.api.access import AuditEntry, KeyResource, NewKey
from api_schemas.api.resources import Health, Limits, Page, Quota, Quotas, ResumableFile
from api_schemas.api.webhooks import (
    PING,
    DeliveryResource,
    DeliveryState,
    JobNews,
    WebhookEvent,
    WebhookMessage,
    WebhookNews,
    WebhookResource,
    WebhookSecret,
)
from api_schemas.api.workers import WorkerResource
from api_schemas.enums import AuditAction, AuditOutcome, DeviceKind, JobState, KeyScope
from checkpoints.families import ALL_FAMILIES
from service.openapi.examples.job import JOB, NOON
from store.settings import Settings
from store.uploads.inspection import dataset_names
from store.uploads.inspection.models import folder as model_folder

# Pydantic reads the source of the statement in which a page of something is named first: each has one of its own.
_Pieces = Page[ResumableFile]
_Webhooks = Page[WebhookResource]
_Deliveries = Page[DeliveryResource]
_Keys = Page[KeyResource]
_Entries = Page[AuditEntry]
_Workers = Page[WorkerResource]


def _default(setting: str) -> int:
    value: int = Settings.model_fields[setting].default
    return value


def _piece(upload: str, name: str, size: int, offset: int) -> ResumableFile:
    return ResumableFile(
        id=f"upl_{'a' * 26}", upload=upload, name=name, size=size, offset=offset, expires_at=NOON.replace(day=12)
    )


_MODEL_PIECE = _piece(f"mdl_{'a' * 26}", "model.safetensors", 346_404_948, 0)
_DATASET_PIECE = _piece(f"dst_{'a' * 26}", "train.parquet", 28_026_768, 0)
_HALF = {"offset": 16_777_216}

_KEY = KeyResource(
    id=f"key_{'a' * 26}",
    prefix="sk_aaaaaa",
    name="nightly compression",
    scopes=(KeyScope.MODELS_WRITE, KeyScope.JOBS_WRITE, KeyScope.JOBS_READ),
    created_at=NOON,
    expires_at=datetime(2027, 1, 1, tzinfo=NOON.tzinfo),
    revoked_at=None,
    last_used_at=NOON.replace(hour=14),
)
_NEW_KEY = NewKey(**_KEY.model_copy(update={"last_used_at": None}).model_dump(), token=f"sk_{'a' * 26}_{'B' * 43}")

_WEBHOOK = WebhookResource(
    id=f"whk_{'a' * 26}",
    url="https://hooks.example.com/secateur",
    events=tuple(WebhookEvent),
    enabled=True,
    disabled_reason=None,
    failing_since=None,
    previous_secret_until=None,
    created_at=NOON,
)
_SECRET = WebhookSecret(**_WEBHOOK.model_dump(), secret=f"whsec_{'A' * 43}=")
_ROTATED = _SECRET.model_copy(update={"previous_secret_until": NOON.replace(day=6), "secret": f"whsec_{'B' * 43}="})


def _said(event: WebhookEvent | Literal["webhook.ping"], data: JobNews | WebhookNews) -> str:
    return WebhookMessage(type=event, timestamp=NOON, data=data).model_dump_json()


_NEWS = JobNews(
    id=JOB.id, name=JOB.name, state=JobState.SUCCEEDED, url=f"/v1/jobs/{JOB.id}",
    checkpoints_url=f"/v1/jobs/{JOB.id}/checkpoints",
)  # fmt: skip
_DELIVERY = DeliveryResource(
    id=f"dlv_{'a' * 26}",
    message_id=f"msg_{'a' * 26}",
    type=WebhookEvent.JOB_SUCCEEDED,
    state=DeliveryState.DELIVERED,
    attempts=1,
    created_at=NOON,
    next_attempt_at=None,
    delivered_at=NOON.replace(second=1),
    last_status=204,
    last_error=None,
    last_latency_seconds=0.084,
    body=_said(WebhookEvent.JOB_SUCCEEDED, _NEWS),
)
_ON_ITS_WAY = _DELIVERY.model_copy(
    update={
        "state": DeliveryState.PENDING, "attempts": 0, "next_attempt_at": NOON, "delivered_at": None, "last_status": None,
        "last_latency_seconds": None,
    }
)  # fmt: skip

_AUDIT = AuditEntry(
    id=f"aud_{'a' * 26}",
    created_at=NOON,
    key_id=_KEY.id,
    action=AuditAction.CREATE_JOB,
    object_id=JOB.id,
    outcome=AuditOutcome.DONE,
    request_id="0b6f9c1e5d3a4f0f8a8b7d0c6e2f1a34",
)

_WORKER = WorkerResource(
    id="gpu-7-cuda0:4f1d0c6a9b2e:811", name="gpu-7-cuda0", host="gpu-7", device=DeviceKind.CUDA, device_name="NVIDIA H200",
    device_memory_bytes=150_109_880_320, host_memory_bytes=123_480_309_760, started_at=NOON, seen_at=NOON.replace(hour=14),
    alive=True, busy=True, job=JOB.id,
)  # fmt: skip

_LIMITS = Limits(
    max_file_bytes=_default("max_file_bytes"),
    max_files=_default("max_files"),
    max_json_bytes=_default("max_json_bytes"),
    model_file_suffixes=model_folder.SUFFIXES,
    dataset_file_suffixes=dataset_names.SUFFIXES,
    families=tuple(family.name for family in ALL_FAMILIES),
    quotas=Quotas(
        requests_per_minute=Quota(limit=600, used=12),
        stored_bytes=Quota(limit=10**12, used=393_500_000),
        waiting_jobs=Quota(limit=100, used=1),
        running_jobs=Quota(limit=None, used=1),
    ),
    model_buckets=("checkpoints",),
    scopes=_KEY.scopes,
)

ANSWERS: dict[str, BaseModel] = {
    "create_model_file_upload": _MODEL_PIECE,
    "list_model_file_uploads": _Pieces(items=(_MODEL_PIECE.model_copy(update=_HALF),)),
    "create_dataset_file_upload": _DATASET_PIECE,
    "list_dataset_file_uploads": _Pieces(items=(_DATASET_PIECE.model_copy(update=_HALF),)),
    "get_file_upload": _MODEL_PIECE.model_copy(update=_HALF),
    "create_webhook": _SECRET,
    "list_webhooks": _Webhooks(items=(_WEBHOOK,)),
    "get_webhook": _WEBHOOK,
    "update_webhook": _WEBHOOK.model_copy(update={"events": (WebhookEvent.JOB_FAILED,)}),
    "ping_webhook": _ON_ITS_WAY.model_copy(update={"type": PING, "body": _said(PING, WebhookNews(id=_WEBHOOK.id))}),
    "rotate_webhook_secret": _ROTATED,
    "list_webhook_deliveries": _Deliveries(items=(_DELIVERY,)),
    "redeliver_webhook_delivery": _ON_ITS_WAY,
    "create_key": _NEW_KEY,
    "list_keys": _Keys(items=(_KEY,)),
    "get_key": _KEY,
    "revoke_key": _KEY.model_copy(update={"revoked_at": NOON.replace(day=6)}),
    "list_audit": _Entries(items=(_AUDIT,)),
    "list_workers": _Workers(items=(_WORKER,)),
    "get_limits": _LIMITS,
    "get_health": Health(status="ok"),
    "get_readiness": Health(status="ok", checks={"database": "ok", "broker": "ok", "artifacts": "ok"}),
}  # fmt: skip
"""By operation id."""
