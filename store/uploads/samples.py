"""The sample rows of a dataset: stored with its check's result, deleted with its files.

Their recordings and images are in the rows themselves: they are few, small, and only a page reads them. They count as stored
bytes.
"""

from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.orm import Session, undefer

from store.database import stored_bytes
from store.database.tables import DatasetSample, Upload
from store.database.tenancy import select_owned
from store.uploads.inspection.found_samples import FoundSample


def keep(session: Session, upload_id: str, found: Sequence[FoundSample]) -> None:
    """Write what the inspector chose, as the last thing that the transaction does."""
    upload = session.get_one(Upload, upload_id)
    tenant = upload.tenant
    for number, sample in enumerate(found):
        size = len(sample.media or b"")
        session.add(DatasetSample(upload_id=upload_id, tenant=tenant, number=number, size=size, **sample.model_dump()))
    total = sum(len(sample.media or b"") for sample in found)
    session.execute(update(Upload).where(Upload.id == upload_id).values(size=Upload.size + total))
    session.flush()
    stored_bytes.add(session, tenant, total)


def of(session: Session, tenant: str, upload_id: str) -> Sequence[DatasetSample]:
    """All of a dataset, in order, without their media."""
    mine = select_owned(DatasetSample, tenant).where(DatasetSample.upload_id == upload_id)
    return session.scalars(mine.order_by(DatasetSample.number)).all()


def media(session: Session, tenant: str, upload_id: str, number: int) -> bytes | None:
    """The recording or image of one; None where it has none, or there is no such sample."""
    one = (DatasetSample.upload_id == upload_id, DatasetSample.number == number)
    found = session.scalar(select_owned(DatasetSample, tenant).where(*one).options(undefer(DatasetSample.media)))
    return None if found is None else found.media
