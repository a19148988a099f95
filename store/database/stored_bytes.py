"""How many bytes each tenant has stored, uploads and checkpoints together: a number that is kept, not a sum that is made.

Whoever adds or removes rows of files says so here, in the same transaction and as its last write: until it commits others of the
tenant wait, and it must not wait for them. Whoever changes several tenants' does so in the order of their names.
`secateur doctor --verify` compares the numbers with the rows.
"""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.database.tables import StoredBytes
from store.database.tenancy import owned_by


def add(session: Session, tenant: str, size: int) -> None:
    """`size` more; less where it is negative."""
    if not size:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    counted = insert(StoredBytes).values(tenant=tenant, size=size)
    session.execute(
        counted.on_conflict_do_update(index_elements=["tenant"], set_={"size": StoredBytes.size + counted.excluded.size})
    )


def add_all(session: Session, sizes: Mapping[str, int]) -> None:
    """By tenant."""
    for tenant in sorted(sizes):
        add(session, tenant, sizes[tenant])


def of(session: Session, tenant: str) -> int:
    """The tenant's."""
    return session.scalar(select(StoredBytes.size).where(owned_by(StoredBytes, tenant))) or 0


def total(session: Session) -> int:
    """Of all tenants."""
    # PostgreSQL answers a sum of big integers as a decimal.
    return int(session.scalar(select(func.sum(StoredBytes.size))) or 0)
