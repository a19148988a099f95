"""Columns that hold a pydantic model as JSON, validated on write and on read, so no code handles plain dicts."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator

T = TypeVar("T")


class PydanticJSON(TypeDecorator[T]):
    """`PydanticJSON(JobRequest)` or `PydanticJSON(adapter)`: Python sees the model, the database its JSON, NULL is None."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, of: type[T] | TypeAdapter[T]) -> None:
        super().__init__(none_as_null=True)
        # SQLAlchemy finds it by the parameter's name, for the key under which it keeps a compiled statement: compiling a claim
        # takes longer than the database takes to answer it. An adapter is equal to itself alone.
        self.of = of
        self.adapter: TypeAdapter[T] = of if isinstance(of, TypeAdapter) else TypeAdapter(of)

    def process_bind_param(self, value: T | None, dialect: Dialect) -> Any:  # noqa: ARG002
        if value is None:
            return None
        dumped = self.adapter.dump_python(value, mode="json")
        json.dumps(dumped, allow_nan=False)  # NaN is no JSON: PostgreSQL would refuse the row, SQLite keep it.
        return dumped

    def process_result_value(self, value: Any, dialect: Dialect) -> T | None:  # noqa: ARG002
        return None if value is None else self.adapter.validate_python(value)
