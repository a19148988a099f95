"""Files sent in pieces: what has arrived of each, and which request may add to it.

A request that sends bytes first takes a new epoch. From then on an earlier request, whose client disconnected long before the
server notices, cannot add anything. So a client may continue at once, and no byte is written twice.
"""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.orm import Session

from api_schemas import ids
from store.database.paging import Rows, fetch_page
from store.database.tables import ResumablePart, ResumableUpload
from store.database.tenancy import owned_by, select_owned


def create(session: Session, tenant: str, upload_id: str, name: str, size: int) -> ResumableUpload:
    """Nothing has come yet."""
    row = ResumableUpload(
        id=ids.new_id(ids.RESUMABLE), tenant=tenant, upload_id=upload_id, name=name, size=size, offset=0, epoch=0
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def get(session: Session, tenant: str, resumable_id: str) -> ResumableUpload | None:
    return session.scalar(select_owned(ResumableUpload, tenant).where(ResumableUpload.id == resumable_id))


def page(session: Session, tenant: str, upload_id: str, cursor: str | None, limit: int) -> Rows[ResumableUpload]:
    """Of a model or dataset, newest first."""
    query = select_owned(ResumableUpload, tenant).where(ResumableUpload.upload_id == upload_id)
    return fetch_page(session, ResumableUpload, query, cursor, limit)


def begin(session: Session, tenant: str, resumable_id: str, offset: int) -> int | None:
    """The epoch of a request that goes on at `offset`; None where the file stands elsewhere."""
    statement = update(ResumableUpload).where(
        owned_by(ResumableUpload, tenant), ResumableUpload.id == resumable_id, ResumableUpload.offset == offset
    )
    taken = statement.values(epoch=ResumableUpload.epoch + 1).returning(ResumableUpload.epoch)
    return session.scalar(taken)


def append(session: Session, tenant: str, resumable_id: str, epoch: int, parts: Sequence[tuple[int, int, str]]) -> bool:
    """Keep pieces (start, size, key) that follow one another. False where another request has gone on meanwhile."""
    start = parts[0][0]
    end = parts[-1][0] + parts[-1][1]
    if not _advance(session, tenant, resumable_id, epoch, start, end):
        return False
    session.add_all(
        ResumablePart(tenant=tenant, resumable_id=resumable_id, start=at, size=size, key=key) for at, size, key in parts
    )
    return True


def finish(session: Session, tenant: str, resumable_id: str, epoch: int, start: int, size: int) -> bool:
    """The last piece has come and the file lies elsewhere, whole. False where another request has gone on meanwhile."""
    if not _advance(session, tenant, resumable_id, epoch, start, size):
        return False
    session.execute(
        delete(ResumablePart).where(owned_by(ResumablePart, tenant), ResumablePart.resumable_id == resumable_id)
    )
    return True


def parts(session: Session, tenant: str, resumable_id: str) -> Sequence[ResumablePart]:
    """In order."""
    rows = select_owned(ResumablePart, tenant).where(ResumablePart.resumable_id == resumable_id)
    return session.scalars(rows.order_by(ResumablePart.start)).all()


def discard(session: Session, tenant: str, resumable_id: str) -> bool:
    """Forget it; its bytes are the caller's to remove after the commit. False: there was none."""
    statement = delete(ResumableUpload).where(owned_by(ResumableUpload, tenant), ResumableUpload.id == resumable_id)
    return cast("CursorResult[Any]", session.execute(statement)).rowcount > 0


def _advance(session: Session, tenant: str, resumable_id: str, epoch: int, start: int, end: int) -> bool:
    statement = update(ResumableUpload).where(
        owned_by(ResumableUpload, tenant),
        ResumableUpload.id == resumable_id,
        ResumableUpload.epoch == epoch,
        ResumableUpload.offset == start,
    )
    return cast("CursorResult[Any]", session.execute(statement.values(offset=end))).rowcount > 0
