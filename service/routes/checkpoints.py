"""Checkpoints: every step's model, as files or as one archive."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api_schemas.api.resources import CheckpointResource, Page
from api_schemas.errors import ErrorCode
from service.access.turns import FairRoute
from service.core.jobs import checkpoints
from service.core.jobs.archive import StepArchive
from service.dependencies import ToReadJobs
from service.openapi.document import BINARY, CONTENT_RANGE, ETAG, NOT_MODIFIED, RANGES, problems
from service.responses.downloads import MEDIA_TYPES, archive_response, file_response
from service.routes.parameters import JobPath, StepPath

router = APIRouter(prefix="/jobs/{job_id}/checkpoints", tags=["checkpoints"], route_class=FairRoute)

# The kind that the file's name says. Generators of clients take the first: bytes, whatever the name.
_FILE = dict.fromkeys(
    ("application/octet-stream", *sorted({kind.split(";")[0] for kind in MEDIA_TYPES.values()})), BINARY
)
_TAR: dict[str, Any] = {"application/x-tar": BINARY}
StoredName = Annotated[
    str, Path(max_length=255, description="Name of a file of the step.", examples=["model.safetensors"])
]


@router.get(
    "",
    operation_id="list_checkpoints",
    summary="List checkpoints",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED),
)
def list_checkpoints(services: ToReadJobs, job_id: JobPath) -> Page[CheckpointResource]:
    """All committed steps with a model, in order, including those of running, failed and cancelled jobs."""
    return Page(items=tuple(checkpoints.described(services, job_id, checkpoints.all_of(services, job_id))))


@router.get(
    "/{step}",
    operation_id="get_checkpoint",
    summary="Get a checkpoint",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.NO_CHECKPOINT, ErrorCode.DELETED, ErrorCode.EXPIRED),
)
def get_checkpoint(services: ToReadJobs, job_id: JobPath, step: StepPath) -> CheckpointResource:
    """Returns its metrics, and its files with sizes, SHA-256 and URLs."""
    (found,) = checkpoints.described(services, job_id, [checkpoints.one(services, job_id, step)])
    return found


@router.get(
    "/{step}/files/{name:path}",
    operation_id="download_checkpoint_file",
    summary="Download a file",
    response_class=Response,
    responses={
        200: {"description": "The file. `ETag` is its SHA-256.", "content": _FILE, "headers": ETAG},
        206: {"description": "The requested byte range.", "content": _FILE, "headers": ETAG | CONTENT_RANGE},
        304: NOT_MODIFIED,
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.NO_CHECKPOINT,
            ErrorCode.DELETED,
            ErrorCode.EXPIRED,
            ErrorCode.ARTIFACT_LOST,
            ErrorCode.STORAGE_UNAVAILABLE,
            ErrorCode.RANGE_NOT_SATISFIABLE,
        ),
    },
    openapi_extra=RANGES,
)
def download_checkpoint_file(
    services: ToReadJobs, job_id: JobPath, step: StepPath, name: StoredName, request: Request
) -> Response:
    """Supports a single range, `If-Range`, `If-None-Match` and HEAD. 404 `no_checkpoint` if the step has no model."""
    return file_response(request, services, checkpoints.file_of(services, job_id, step, name))


@router.get(
    "/{step}/archive",
    operation_id="download_checkpoint_archive",
    summary="Download a checkpoint as a tar archive",
    response_class=Response,
    responses={
        200: {"description": "All files, in one folder.", "content": _TAR, "headers": ETAG},
        206: {"description": "The requested byte range.", "content": _TAR, "headers": ETAG | CONTENT_RANGE},
        304: NOT_MODIFIED,
        **problems(
            ErrorCode.NOT_FOUND,
            ErrorCode.NO_CHECKPOINT,
            ErrorCode.DELETED,
            ErrorCode.EXPIRED,
            ErrorCode.ARTIFACT_LOST,
            ErrorCode.STORAGE_UNAVAILABLE,
            ErrorCode.RANGE_NOT_SATISFIABLE,
        ),
    },
    openapi_extra=RANGES,
)
def download_checkpoint_archive(services: ToReadJobs, job_id: JobPath, step: StepPath, request: Request) -> Response:
    """Streamed, of known length and always identical, so that interrupted downloads can be resumed with `Range`."""
    row = checkpoints.one(services, job_id, step)
    folder = f"{job_id}-step-{step}"
    return archive_response(request, services, StepArchive(folder, row.files), folder)
