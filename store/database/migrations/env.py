"""Alembic's entry point: runs the migrations in the transaction that `Database.migrate` opened."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Enum

from store.database.clock import Instant
from store.database.json_columns import PydanticJSON
from store.database.tables import Base


def plain_type(type_: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """How our column types are written into a new revision: without pydantic models, which change."""
    if type_ == "type" and isinstance(item, PydanticJSON):
        return "sa.JSON()"
    if type_ == "type" and isinstance(item, Enum):
        return f"sa.String(length={item.length})"
    if type_ == "type" and isinstance(item, Instant):
        return "Instant()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it.
    render_item=plain_type,
    compare_type=True,
)
context.run_migrations()
