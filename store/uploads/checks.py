"""Checks of datasets: requested by `complete`, done by maintenance (worker/checks.py), one per tenant at a time.

Every change is fenced like a job's (docs/states.md): a claim gives a check to one process for a lease and increments `epoch`, and
later writes of that process must match that epoch. Deleting an upload deletes its check, and the process that runs it learns this
at its next renewal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, and_, delete, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from api_schemas.api.resources import JobError
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode
from api_schemas.spec.inputs import Columns
from store.database.clock import now
from store.database.locks import one_at_a_time
from store.database.tables import Upload, UploadCheck, UploadFile
from store.database.tenancy import owned_by, select_owned
from store.queue import outbox
from store.uploads import samples
from store.uploads.inspection.found_samples import FoundSample

MOST_FAILURES = 3
"""Processes that may vanish over one check before the dataset is refused."""


@dataclass(frozen=True)
class Claimed:
    """A check that this process has, for a lease."""

    upload_id: str
    epoch: int
    columns: Columns
    files: tuple[UploadFile, ...]


def request(session: Session, tenant: str, upload_id: str, columns: Columns) -> bool:
    """open → checking, with the message that wakes maintenance. False where it is not open, or a file has not come."""
    missing = exists().where(UploadFile.upload_id == Upload.id, UploadFile.key.is_(None))
    is_open = and_(owned_by(Upload, tenant), Upload.id == upload_id, Upload.state == UploadState.OPEN, ~missing)
    begun = update(Upload).where(is_open).values(state=UploadState.CHECKING, error=None)
    if not _changed(session, begun):
        return False
    session.add(UploadCheck(upload_id=upload_id, tenant=tenant, columns=columns.model_dump(mode="json")))
    outbox.add_check(session, tenant)
    return True


def columns_of(session: Session, tenant: str, upload_id: str) -> Columns | None:
    """What the check of an upload looks for; None where there is none."""
    found = session.scalar(select_owned(UploadCheck, tenant).where(UploadCheck.upload_id == upload_id))
    return None if found is None else Columns.model_validate(found.columns)


def claim(session: Session, lease_seconds: float) -> Claimed | None:
    """The check whose turn it is: of a tenant that none is made of, and that has waited longest for its turn.

    Tenants take turns however many checks each has waiting; those of one come in the order in which they were asked for.
    """
    one_at_a_time(session, "upload checks")
    _give_up_on_killers(session)
    other = aliased(UploadCheck)
    busy = exists().where(other.tenant == UploadCheck.tenant, other.lease_until >= now())
    free = or_(UploadCheck.lease_until.is_(None), UploadCheck.lease_until < now())
    turn = select(UploadCheck).where(free, ~busy, UploadCheck.waits_since <= now())
    check = session.scalar(turn.order_by(UploadCheck.waits_since, UploadCheck.asked_at, UploadCheck.upload_id).limit(1))
    if check is None:
        return None
    check.failures += check.lease_until is not None  # Its process vanished, or it would have written an answer.
    check.epoch += 1
    session.flush()
    taken = (UploadCheck.upload_id == check.upload_id, UploadCheck.epoch == check.epoch)
    session.execute(update(UploadCheck).where(*taken).values(lease_until=now(plus=lease_seconds)))
    others = (owned_by(UploadCheck, check.tenant), UploadCheck.upload_id != check.upload_id)
    session.execute(update(UploadCheck).where(*others, UploadCheck.waits_since < now()).values(waits_since=now()))
    files = select_owned(UploadFile, check.tenant).where(UploadFile.upload_id == check.upload_id)
    rows = session.scalars(files.order_by(UploadFile.position)).all()
    return Claimed(check.upload_id, check.epoch, Columns.model_validate(check.columns), tuple(rows))


def renew(session: Session, claimed: Claimed, lease_seconds: float) -> bool:
    """A new lease. False where the check is not this process's any more: the upload was deleted, or the lease was lost."""
    lease = update(UploadCheck).where(*_mine(claimed)).values(lease_until=now(plus=lease_seconds))
    return _changed(session, lease)


def put_back(session: Session, claimed: Claimed, wait_seconds: float = 0) -> None:
    """It waits again, at least so long: nothing was found out, and nothing is wrong with it."""
    session.execute(
        update(UploadCheck).where(*_mine(claimed)).values(lease_until=None, waits_since=now(plus=wait_seconds))
    )


def accept(
    session: Session, claimed: Claimed, description: Mapping[str, Any], shown: Sequence[FoundSample] = ()
) -> bool:
    """checking → ready, with what was found, and the rows that are shown of it. False: as of `renew`."""
    if not _end(session, claimed, state=UploadState.READY, description=dict(description)):
        return False
    samples.keep(session, claimed.upload_id, shown)
    return True


def refuse(session: Session, claimed: Claimed, error: JobError) -> bool:
    """checking → open, with what is wrong. False: as of `renew`."""
    return _end(session, claimed, state=UploadState.OPEN, error=error.model_dump(mode="json"))


def _end(session: Session, claimed: Claimed, **values: Any) -> bool:
    if not _changed(session, delete(UploadCheck).where(*_mine(claimed))):
        return False
    checked = (Upload.id == claimed.upload_id, Upload.state == UploadState.CHECKING)
    return _changed(session, update(Upload).where(*checked).values(**values))


def _give_up_on_killers(session: Session) -> None:
    """Refuse what no process has outlived: memory or time beyond what the inspector itself is bounded by."""
    over = (UploadCheck.lease_until < now(), UploadCheck.failures >= MOST_FAILURES - 1)
    detail = (
        f"The dataset could not be checked: the process that reads it died {MOST_FAILURES} times. Write smaller row "
        "groups and clips, and check the shards."
    )
    error = JobError(code=ErrorCode.DATASET_SCHEMA, detail=detail).model_dump(mode="json")
    for upload_id in session.scalars(select(UploadCheck.upload_id).where(*over)).all():
        session.execute(delete(UploadCheck).where(UploadCheck.upload_id == upload_id))
        checked = (Upload.id == upload_id, Upload.state == UploadState.CHECKING)
        session.execute(update(Upload).where(*checked).values(state=UploadState.OPEN, error=error))


def _mine(claimed: Claimed) -> tuple[Any, Any, Any]:
    return (
        UploadCheck.upload_id == claimed.upload_id,
        UploadCheck.epoch == claimed.epoch,
        UploadCheck.lease_until >= now(),
    )


def _changed(session: Session, statement: Any) -> bool:
    result = cast("CursorResult[Any]", session.execute(statement))
    session.expire_all()
    return result.rowcount > 0
