"""The sample rows of a dataset, and their recordings and images."""

from api_schemas.api.resources import DatasetContents
from api_schemas.api.samples import DatasetSample, DatasetSamples, SampleMedia
from api_schemas.enums import Modality
from api_schemas.errors import ErrorCode, SecateurError
from service.core.uploads import uploads
from service.paths import V1
from service.services import Services
from store.database import tables
from store.uploads import samples
from store.uploads.inspection.found_samples import MEDIA_TYPES


def of(services: Services, dataset_id: str) -> DatasetSamples:
    """None of a dataset that is not ready. Raises NOT_FOUND, DELETED or EXPIRED."""
    kind = _kind(services, dataset_id)
    with services.database.read() as session:
        rows = samples.of(session, services.tenant, dataset_id)
    return DatasetSamples(items=() if kind is None else tuple(_sample(row, kind) for row in rows))


def media(services: Services, dataset_id: str, number: int) -> tuple[bytes, str]:
    """The bytes and their media type. Raises NOT_FOUND, also of a row without recording and image, DELETED or EXPIRED."""
    kind = _kind(services, dataset_id)
    with services.database.read() as session:
        data = samples.media(session, services.tenant, dataset_id, number)
    if data is None or kind is None or kind not in MEDIA_TYPES:
        raise SecateurError(ErrorCode.NOT_FOUND, f"Sample {number} of {dataset_id} has no recording or image.")
    return data, MEDIA_TYPES[kind]


def _kind(services: Services, dataset_id: str) -> Modality | None:
    upload = uploads.get(services, "dataset", dataset_id)
    uploads.require_kept(upload)
    return None if upload.description is None else DatasetContents.model_validate(upload.description).modality


def _sample(row: tables.DatasetSample, kind: Modality) -> DatasetSample:
    media = None
    if row.size and kind in MEDIA_TYPES:
        media = SampleMedia(
            url=f"{V1}/datasets/{row.upload_id}/samples/{row.number}/media",
            type=MEDIA_TYPES[kind],
            size=row.size,
            seconds=None if row.seconds is None else round(row.seconds, 3),
            width=row.width,
            height=row.height,
        )
    return DatasetSample(
        number=row.number,
        split=row.split,
        row=row.row,
        kind=kind,
        text=row.text,
        text_pair=row.text_pair,
        label=row.label,
        media=media,
    )
