"""Columns that hold models: what is compiled for them is kept."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import event, literal

from api_schemas.api.resources import JobError
from store.database.connection import Database
from store.database.json_columns import PydanticJSON
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from tests.support.jobs.records import job_request


def test_a_claim_is_compiled_once(sqlite_database: Database) -> None:
    """Where nothing could be remembered, compiling it took longer than the database took to answer."""
    compiled: list[str] = []

    @event.listens_for(sqlite_database.engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
        if "UPDATE jobs SET" in statement:
            compiled.append(context.cache_hit.name)

    with sqlite_database.write() as session:
        for _ in range(3):
            jobs.create(session, DEFAULT_TENANT, job_request(), {})
    for _ in range(3):
        with sqlite_database.write() as session:
            assert transitions.claim(session, "a", lease_seconds=60, failure_cap=3) is not None
    assert compiled[-1] == "CACHE_HIT", compiled


def test_columns_of_different_models_are_told_apart() -> None:
    """Else a value of one would be written as one of the other, where the statements are alike."""
    types = [Job.error.type, Job.progress.type, PydanticJSON(JobError), PydanticJSON(TypeAdapter(tuple[JobError, ...]))]
    keys = [literal(None, type_)._generate_cache_key() for type_ in types]
    assert None not in keys
    assert keys[0] == keys[2]
    assert len({key.key for key in keys if key is not None}) == 3
    assert Job.progress.type.adapter is not Job.error.type.adapter
