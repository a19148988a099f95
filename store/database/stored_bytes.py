"""How many bytes each tenant has stored, in uploads, their samples and checkpoints: a stored number, not a sum over rows.

Code that adds or removes rows of files updates it here, in the same transaction and as its last write: until the transaction
commits, others of the tenant wait, so it must not wait for them. Code that changes several tenants' numbers does so in the order
of their names. `secateur doctor --verify` compares the numbers with the rows.
"""

from collections.abc import Mapping

from sqlalchemy import Select, delete, func, insert, select, text
from sqlalchemy.orm import Session

from store.database.tables import DatasetSample, JobStepFile, StoredBytes, Upload, UploadFile
from store.database.tables.uploads import THERE
from store.database.tenancy import owned_by
from store.database.upsert import insert_into


def add(session: Session, tenant: str, size: int) -> None:
    """`size` more; less where it is negative."""
    if not size:
        return
    counted = insert_into(session, StoredBytes).values(tenant=tenant, size=size)
    session.execute(
        counted.on_conflict_do_update(
            index_elements=["tenant"], set_={"size": StoredBytes.size + counted.excluded.size}
        )
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


def differing(session: Session) -> set[str]:
    """Tenants whose number is not what their rows of files add up to: reads them all."""
    counted = {row.tenant: row.size for row in session.execute(select(StoredBytes.tenant, StoredBytes.size))}
    there = {tenant: int(size) for tenant, size in session.execute(_by_rows())}
    return {tenant for tenant in counted.keys() | there.keys() if counted.get(tenant, 0) != there.get(tenant, 0)}


def count_anew(session: Session) -> None:
    """Recompute every number from the rows of files. Transactions that add or remove files wait until this one ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE stored_bytes IN EXCLUSIVE MODE"))
    session.execute(delete(StoredBytes))
    session.execute(insert(StoredBytes).from_select(["tenant", "size"], _by_rows()))


def _by_rows() -> Select[str, int]:
    kept = select(Upload.id).where(text(THERE))
    uploaded = select(UploadFile.tenant, UploadFile.size).where(UploadFile.upload_id.in_(kept))
    shown = select(DatasetSample.tenant, DatasetSample.size)
    files = uploaded.union_all(select(JobStepFile.tenant, JobStepFile.size), shown).subquery()
    return select(files.c.tenant, func.sum(files.c.size)).group_by(files.c.tenant)
