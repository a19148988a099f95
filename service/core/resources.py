"""Converts rows of the store to resources of the API."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from api_schemas.api.access import AuditEntry, KeyResource
from api_schemas.api.resources import (
    CheckpointFile,
    CheckpointResource,
    DatasetContents,
    DatasetResource,
    JobError,
    JobResource,
    ModelLayout,
    ModelResource,
    Page,
    ResumableFile,
    UploadedFile,
)
from api_schemas.enums import Granularity, JobState, UploadState
from api_schemas.results.metrics import JobWarning, StepMetrics
from checkpoints.describe import Checkpoint
from checkpoints.planning.feasibility import max_sparsity
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from service.paths import V1
from store.access import api_keys
from store.database.paging import Rows
from store.database.tables import ApiKey, AuditRow, Job, JobStep, ResumableUpload, Upload, UploadFile
from store.settings import Settings

T = TypeVar("T")


def file(row: UploadFile) -> UploadedFile:
    return UploadedFile(name=row.name, size=row.size, sha256=row.sha256, uploaded=row.key is not None)


def resumable_file(row: ResumableUpload, expires_at: datetime) -> ResumableFile:
    return ResumableFile(
        id=row.id, upload=row.upload_id, name=row.name, size=row.size, offset=row.offset, expires_at=expires_at
    )


def model(row: Upload, settings: Settings) -> ModelResource:
    return ModelResource(
        id=row.id,
        name=row.name,
        state=row.state,
        created_at=row.created_at,
        expires_at=upload_expires_at(row, settings),
        files=tuple(map(file, row.files)),
        layout=None if row.description is None else ModelLayout.model_validate(row.description),
        warnings=(*_of_left_out(row.left_out or ()), *model_warnings(row.description or {})),
    )


def dataset(row: Upload, settings: Settings) -> DatasetResource:
    contents = None if row.description is None else DatasetContents.model_validate(row.description)
    return DatasetResource(
        id=row.id,
        name=row.name,
        state=row.state,
        created_at=row.created_at,
        expires_at=upload_expires_at(row, settings),
        files=tuple(map(file, row.files)),
        contents=contents,
        error=None if row.error is None else JobError.model_validate(row.error),
        warnings=() if contents is None else _of_labels(contents.label_error),
    )


def model_description(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is stored of a checkpoint that passed: its ModelLayout, and beside it the shape that `model_shape` reads and what
    `model_warnings` does."""
    shape, widths = checkpoint.shape, checkpoint.widths
    layout = ModelLayout(
        family=checkpoint.family.name,
        architecture=checkpoint.name,
        task=checkpoint.architecture.task,
        modality=checkpoint.family.modality,
        head=checkpoint.architecture.head,
        labels=checkpoint.labels,
        multi_label=checkpoint.multi_label,
        widths=widths,
        attention_parameters=accounting.attention_parameters(shape, widths),
        feed_forward_parameters=accounting.feed_forward_parameters(shape, widths),
        total_parameters=accounting.total_parameters(shape, widths),
        flops=accounting.total_flops(shape, widths),
        weight_bytes=accounting.weight_bytes(shape, widths),
        max_sparsity={granularity: max_sparsity(shape, widths, granularity) for granularity in Granularity},
        pooling=() if checkpoint.sentences is None else checkpoint.sentences.pooling,
        dense=tuple(each.width_out for each in checkpoint.dense),
    )
    said = [warning.model_dump(mode="json") for warning in checkpoint.warnings]
    return {**layout.model_dump(mode="json"), "shape": shape.model_dump(mode="json"), "warnings": said}


def _of_labels(error: JobError | None) -> tuple[JobWarning, ...]:
    """What is wrong with a label column, which stops only jobs that read it."""
    if error is None:
        return ()
    detail = (
        f"{error.detail} Jobs that need labels will be rejected; jobs that do not need labels can still use the "
        "dataset."
    )
    return (JobWarning(code="label_column", pointer="/contents/label_column", detail=detail),)


def _of_left_out(names: Sequence[str]) -> Iterator[JobWarning]:
    if names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        detail = f"These files are not needed and will not be stored: {shown}. Send only the files listed in `files`."
        yield JobWarning(code="files_left_out", pointer="/files", detail=detail)


def model_shape(description: dict[str, Any]) -> ModelShape:
    """The accounting shape stored by `model_description`."""
    return ModelShape.model_validate(description["shape"])


def model_warnings(description: Mapping[str, Any]) -> tuple[JobWarning, ...]:
    """What is not used of a model, as stored by `model_description`; nothing is known of one that was completed before."""
    return tuple(map(JobWarning.model_validate, description.get("warnings", ())))


def job(
    row: Job,
    metrics: Sequence[StepMetrics],
    settings: Settings,
    place: int | None = None,
    waits_for: str | None = None,
) -> JobResource:
    """`metrics` of its committed steps, `place` in the queue, and what it `waits_for` that is not there."""
    return JobResource(
        id=row.id,
        name=row.name,
        sweep_id=row.sweep_id,
        state=row.state,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        request=row.request,
        attempts=row.attempts,
        ran_seconds=round(row.ran_seconds, 1),
        pause_requested=row.pause_requested,
        preempt_requested=row.state is JobState.RUNNING and row.yields_to is not None,
        preemptions=row.preemptions,
        queue_position=place,
        waiting_reason=waits_for,
        expires_at=result_expires_at(row, settings),
        progress=row.progress,
        warnings=tuple(dict.fromkeys((*(row.warnings or ()), *(row.data.warnings if row.data else ())))),
        data=row.data,
        metrics=tuple(metrics),
        result=row.result,
        error=row.error,
    )


def checkpoint(row: JobStep, expires_at: datetime | None) -> CheckpointResource:
    here = f"{V1}/jobs/{row.job_id}/checkpoints/{row.step}"
    return CheckpointResource(
        step=row.step,
        created_at=row.created_at,
        expires_at=expires_at,
        metrics=row.metrics,
        files=tuple(
            CheckpointFile(name=file.name, size=file.size, sha256=file.sha256, url=f"{here}/files/{file.name}")
            for file in row.files
        ),
        archive_url=f"{here}/archive",
    )


def upload_expires_at(row: Upload, settings: Settings) -> datetime | None:
    """As store/retention.py will."""
    kept = {UploadState.OPEN: settings.open_upload_seconds, UploadState.READY: settings.upload_retention_seconds}
    return _later(row.created_at, kept.get(row.state))


def result_expires_at(row: Job, settings: Settings) -> datetime | None:
    """The same, of the checkpoints of a job that has ended: they go with the whole job at the latest."""
    kept = [each for each in (settings.result_retention_seconds, settings.job_retention_seconds) if each is not None]
    return _later(row.finished_at, min(kept, default=None))


def logs_expire_at(row: Job, settings: Settings) -> datetime | None:
    """The same, of the newest piece of its log."""
    return _later(row.finished_at, settings.log_retention_seconds)


def _later(moment: datetime | None, seconds: float | None) -> datetime | None:
    return None if moment is None or seconds is None else moment + timedelta(seconds=seconds)


def key(row: ApiKey) -> KeyResource:
    return KeyResource(
        id=row.id,
        prefix=api_keys.prefix(row.id),
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def audit_entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        created_at=row.created_at,
        key_id=row.key_id,
        action=row.action,
        object_id=row.object_id,
        outcome=row.outcome,
        request_id=row.request_id,
    )


def page(rows: Rows[Any], items: Sequence[T]) -> Page[T]:
    return Page(items=tuple(items), next_cursor=rows.next_cursor)
