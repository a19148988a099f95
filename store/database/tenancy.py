"""The only access to rows that belong to a tenant: every such query starts here, so none can forget the filter."""

from typing import Any, Protocol, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute

# Everything belongs to this tenant until there are keys.
DEFAULT_TENANT = "default"


class OwnedTable(Protocol):
    """A mapped class with a `tenant` column."""

    tenant: Any


T = TypeVar("T", bound=OwnedTable)


def owned_by(table: type[T], tenant: str | BindParameter[str]) -> ColumnElement[bool]:
    """The condition under which rows of `table` are the tenant's. A parameter where a statement is made once for all."""
    column: InstrumentedAttribute[str] = table.tenant
    return column == tenant


def select_owned(table: type[T], tenant: str | BindParameter[str]) -> Select[T]:
    """A SELECT of the tenant's rows, to be narrowed further."""
    return select(table).where(owned_by(table, tenant))
