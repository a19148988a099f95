"""Samples of a dataset: a few of its rows, for display."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api_schemas.api.samples import DatasetSamples
from api_schemas.errors import ErrorCode
from service.access.turns import FairRoute
from service.core.uploads import samples
from service.dependencies import ToReadUploads
from service.openapi.document import BINARY, CONTENT_RANGE, ETAG, NOT_MODIFIED, RANGES, problems
from service.responses.downloads import bytes_response
from service.routes.parameters import DatasetPath, SamplePath

router = APIRouter(prefix="/datasets/{dataset_id}/samples", tags=["datasets"], route_class=FairRoute)

# Generators of clients take the first: bytes, whatever they are.
_MEDIA: dict[str, Any] = dict.fromkeys(("application/octet-stream", "audio/wav", "image/png"), BINARY)


@router.get(
    "",
    operation_id="list_dataset_samples",
    summary="List samples of a dataset",
    responses=problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED),
)
def list_dataset_samples(services: ToReadUploads, dataset_id: DatasetPath) -> DatasetSamples:
    """Up to nine rows, at even distances in every split, with their labels. They are chosen when the dataset is checked."""
    return samples.of(services, dataset_id)


@router.get(
    "/{number}/media",
    operation_id="get_dataset_sample_media",
    summary="Get a sample's recording or image",
    response_class=Response,
    responses={
        200: {"description": "A WAV or PNG, made from the row.", "content": _MEDIA, "headers": ETAG},
        206: {"description": "The requested byte range.", "content": _MEDIA, "headers": ETAG | CONTENT_RANGE},
        304: NOT_MODIFIED,
        **problems(ErrorCode.NOT_FOUND, ErrorCode.DELETED, ErrorCode.EXPIRED, ErrorCode.RANGE_NOT_SATISFIABLE),
    },
    openapi_extra=RANGES,
)
def get_dataset_sample_media(
    services: ToReadUploads, dataset_id: DatasetPath, number: SamplePath, request: Request
) -> Response:
    """Smaller than in the dataset: of a recording the first five seconds in 16 bits and at most 16 kHz, of an image at most
    96 × 96 pixels. 404 if the row is text."""
    data, kind = samples.media(services, dataset_id, number)
    return bytes_response(request, data, kind, f"{dataset_id}-{number}.{kind.rpartition('/')[2]}")
