"""Every error code the service or the engine can say, and the shape in which it is said (RFC 9457).

Codes are stable: clients branch on them. The text beside one may change.
"""

from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator

from api_schemas.base import FrozenModel
from api_schemas.validation_messages import json_pointer


class ErrorCode(StrEnum):
    # Requests
    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    HOST_REFUSED = "host_refused"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    EXPIRED = "expired"
    DELETED = "deleted"
    ARTIFACT_LOST = "artifact_lost"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    TOO_MANY_STREAMS = "too_many_streams"
    REQUEST_TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    MEDIA_TYPE_REFUSED = "media_type_refused"
    TOO_SLOW = "too_slow"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    TUS_VERSION = "tus_version"
    UNAVAILABLE = "unavailable"
    STORAGE_FULL = "storage_full"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    INTERNAL = "internal_error"
    # Outgoing requests
    TARGET_REFUSED = "target_refused"
    # Uploads
    CHECKSUM_MISMATCH = "checksum_mismatch"
    PIECE_CHECKSUM_MISMATCH = "piece_checksum_mismatch"
    UPLOAD_OFFSET = "upload_offset"
    FILE_TYPE_REFUSED = "file_type_refused"
    FILE_NAME_REFUSED = "file_name_refused"
    FILE_MISSING = "file_missing"
    FILE_UNEXPECTED = "file_unexpected"
    UPLOAD_CLOSED = "upload_closed"
    UPLOAD_INCOMPLETE = "upload_incomplete"
    # Checkpoints
    SAFETENSORS_INVALID = "safetensors_invalid"
    WEIGHTS_NOT_FINITE = "weights_not_finite"
    CONFIG_INVALID = "config_invalid"
    CODE_REFUSED = "code_refused"
    ARCHITECTURE_UNSUPPORTED = "architecture_unsupported"
    WEIGHTS_MISMATCH = "weights_mismatch"
    MODEL_FETCH_FAILED = "model_fetch_failed"
    STEP_NOT_PRUNABLE = "step_not_prunable"
    # Datasets
    DATASET_EMPTY = "dataset_empty"
    DATASET_SCHEMA = "dataset_schema"
    LABELS_MISMATCH = "labels_mismatch"
    AUDIO_UNDECODABLE = "audio_undecodable"
    IMAGE_UNDECODABLE = "image_undecodable"
    DATASET_FETCH_FAILED = "dataset_fetch_failed"
    # Jobs
    SPARSITY_OUT_OF_REACH = "sparsity_out_of_reach"
    WIDTH_MISALIGNED = "width_misaligned"
    NO_CHECKPOINT = "no_checkpoint"
    ORIGINAL_MISMATCH = "original_mismatch"
    RELOAD_MISMATCH = "reload_mismatch"
    EXPORT_UNAVAILABLE = "export_unavailable"
    EXPORT_FAILED = "export_failed"
    NUMERICAL = "numerical_failure"
    OUT_OF_MEMORY = "out_of_memory"
    SCRATCH_FULL = "scratch_full"
    STALLED = "stalled"
    MAX_RUNTIME = "max_runtime_exceeded"
    ENGINE_CRASHED = "engine_crashed"
    ENGINE_ERROR = "engine_error"
    INPUT_LOST = "input_lost"


class ErrorItem(FrozenModel):
    """One problem and its location."""

    pointer: str = ""
    """RFC 6901 JSON pointer: into the request's body (`/files/3/name`), to a parameter (`/query/limit`,
    `/header/upload-offset`), or into the data that was read, starting with the file, tensor, column or row
    (`/config.json/num_labels`, `/train[3]`)."""
    code: str
    detail: str

    @classmethod
    def at(cls, *parts: str | int, code: str, detail: str) -> Self:
        """At the place that these names and numbers lead to, one below the other."""
        return cls(pointer=json_pointer(parts), code=code, detail=detail)

    @field_validator("pointer")
    @classmethod
    def _always_a_pointer(cls, pointer: str) -> str:
        # Earlier versions said, and stored with jobs that failed, bare names of files, columns and rows.
        return pointer if pointer == "" or pointer.startswith("/") else json_pointer((pointer,))


class Problem(FrozenModel):
    """`application/problem+json`."""

    type: str = "about:blank"
    title: str = Field(description="The same for every error with this code.")
    status: int
    code: ErrorCode
    detail: str = Field(description="What was wrong this time and what to do.")
    instance: str | None = None
    request_id: str | None = Field(
        None, description="Identifies this request in the operator's log; also in `X-Request-ID`."
    )
    errors: tuple[ErrorItem, ...] = ()


class SecateurError(Exception):
    """Base of every expected failure in any room: a stable code, a sentence for a person, details for a program.

    `retry_after`: seconds after which the same request may succeed, where that is known.
    """

    def __init__(
        self, code: ErrorCode, detail: str, errors: tuple[ErrorItem, ...] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
