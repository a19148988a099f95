"""The tables, by subject. One model for SQLite and PostgreSQL; store/database/migrations makes them.

Only store/jobs/transitions.py writes `jobs.state`, and it alone inserts into `job_steps` and `job_events`.
"""

from store.database.tables.access import ApiKey, AuditRow, BrowserSession, IdempotencyKey, StoredBytes
from store.database.tables.base import ID_LENGTH, KEY_LENGTH, NAME_LENGTH, NAMING, Base, Owned
from store.database.tables.jobs import (
    Job,
    JobCostRow,
    JobEventRow,
    JobLabel,
    JobLogRow,
    JobStep,
    JobStepFile,
    TenantTurn,
    TrainingFile,
)
from store.database.tables.queue import MaintenanceMark, OutboxMessage
from store.database.tables.sweeps import Sweep
from store.database.tables.uploads import DatasetSample, ResumablePart, ResumableUpload, Upload, UploadCheck, UploadFile
from store.database.tables.webhooks import Webhook, WebhookDelivery
from store.database.tables.workers import DeviceSpeedRow, Worker

__all__ = [
    "ID_LENGTH",
    "KEY_LENGTH",
    "NAME_LENGTH",
    "NAMING",
    "ApiKey",
    "AuditRow",
    "Base",
    "BrowserSession",
    "DatasetSample",
    "DeviceSpeedRow",
    "IdempotencyKey",
    "Job",
    "JobCostRow",
    "JobEventRow",
    "JobLabel",
    "JobLogRow",
    "JobStep",
    "JobStepFile",
    "MaintenanceMark",
    "OutboxMessage",
    "Owned",
    "ResumablePart",
    "ResumableUpload",
    "StoredBytes",
    "Sweep",
    "TenantTurn",
    "TrainingFile",
    "Upload",
    "UploadCheck",
    "UploadFile",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
