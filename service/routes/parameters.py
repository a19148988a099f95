"""What several routes share: parameters, and the raw body of a file upload with its declared length."""

import re
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator

from api_schemas.ids import (
    DatasetId,
    DeliveryId,
    FileName,
    FolderFileName,
    JobId,
    KeyId,
    ModelId,
    ResumableId,
    SweepId,
    WebhookId,
)

ModelPath = Annotated[ModelId, Path(description="Identifier of a model.", examples=["mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa"])]
DatasetPath = Annotated[
    DatasetId, Path(description="Identifier of a dataset.", examples=["dst_aaaaaaaaaaaaaaaaaaaaaaaaaa"])
]
ResumablePath = Annotated[
    ResumableId,
    Path(description="Identifier of a resumable file upload.", examples=["upl_aaaaaaaaaaaaaaaaaaaaaaaaaa"]),
]
JobPath = Annotated[JobId, Path(description="Identifier of a job.", examples=["job_aaaaaaaaaaaaaaaaaaaaaaaaaa"])]
SweepPath = Annotated[SweepId, Path(description="Identifier of a sweep.", examples=["swp_aaaaaaaaaaaaaaaaaaaaaaaaaa"])]
KeyPath = Annotated[KeyId, Path(description="Identifier of a key.", examples=["key_aaaaaaaaaaaaaaaaaaaaaaaaaa"])]
WebhookPath = Annotated[
    WebhookId, Path(description="Identifier of a webhook.", examples=["whk_aaaaaaaaaaaaaaaaaaaaaaaaaa"])
]
DeliveryPath = Annotated[
    DeliveryId, Path(description="Identifier of a delivery.", examples=["dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa"])
]
FilePath = Annotated[FileName, Path(description="Name of a declared file.", examples=["train.parquet"])]
ModelFilePath = Annotated[
    FolderFileName,
    Path(description="Path of a declared file in the model's folder.", examples=["1_Pooling/config.json"]),
]
StepPath = Annotated[int, Path(ge=0, le=10_000, description="Number of the step; the first cut is 1.", examples=[1])]
SamplePath = Annotated[int, Path(ge=0, le=10_000, description="Its `number` in the list of samples.", examples=[0])]
Cursor = Annotated[
    str | None, Query(max_length=256, description="`next_cursor` of the previous page. Default: the newest page.")
]


def _date_first(given: str) -> str:
    """Pydantic alone would take a number for seconds since 1970."""
    if not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", given):
        raise ValueError("give the time as in RFC 3339, such as 2026-01-05T00:00:00+01:00")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_date_first)]
Limit = Annotated[int, Query(ge=1, le=100, description="Maximum items per page.")]

FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def content_length(request: Request) -> int | None:
    """None for a chunked body. The server itself has refused anything that is no number."""
    announced = request.headers.get("content-length")
    return int(announced) if announced is not None and announced.isdecimal() else None
