"""The audit log: who changed what, one row in the transaction of each change; a tenant's administrators read it."""

from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.enums import AuditAction, AuditOutcome
from store.database import batches
from store.database.connection import Database
from store.database.paging import Rows, fetch_page
from store.database.tables import AuditRow
from store.database.tenancy import select_owned


def record(
    session: Session,
    tenant: str,
    action: AuditAction,
    object_id: str | None,
    *,
    key_id: str | None = None,
    request_id: str | None = None,
    outcome: AuditOutcome = AuditOutcome.DONE,
) -> None:
    """It stands once this transaction has committed, and not without it."""
    session.add(
        AuditRow(
            id=ids.new_id(ids.AUDIT),
            tenant=tenant,
            key_id=key_id,
            action=action.value,
            object_id=object_id,
            outcome=outcome,
            request_id=request_id,
        )
    )
    session.flush()


def page(session: Session, tenant: str, cursor: str | None, limit: int) -> Rows[AuditRow]:
    """Newest first."""
    return fetch_page(session, AuditRow, select_owned(AuditRow, tenant), cursor, limit)


def expire(database: Database, seconds: float) -> int:
    """Remove what is older; returns how many."""
    return batches.remove(database, AuditRow, AuditRow.created_at, seconds)
