"""Numbers that maintenance records for other processes: when it last did something, how much disk space it had."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database.tables import MaintenanceMark
from store.database.upsert import insert_into

SWEPT = "swept"
"""When leases were last swept, in seconds since 1970 by the database's clock."""
DISK, DISK_FREE = "disk", "disk_free"
"""Bytes of the disk of its scratch folder."""


def put(session: Session, numbers: Mapping[str, int]) -> None:
    """In place of what was there."""
    for name, number in numbers.items():
        row = insert_into(session, MaintenanceMark).values(name=name, number=number)
        session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"number": number}))


def read(session: Session) -> dict[str, int]:
    """All there are."""
    return dict(session.execute(select(MaintenanceMark.name, MaintenanceMark.number)).all())
