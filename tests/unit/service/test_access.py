"""What a key must allow is said by every route, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from api_schemas.enums import AuditAction, KeyScope
from service import dependencies
from service.app import create_app
from service.dependencies import Public, RequiresScope, ToReadJobs, ToWriteJobs
from service.services import Services
from store.settings import Settings


def declaring(path: str, endpoint: Callable[..., Any]) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.add_api_route(path, endpoint)
    return app


def says_nothing() -> None: ...


def says_public(services: Public) -> None: ...


def says_twice(services: ToReadJobs, others: ToWriteJobs) -> None: ...


def says_once(services: Annotated[Services, Depends(RequiresScope((KeyScope.ADMIN,)))]) -> None: ...


@pytest.mark.parametrize("endpoint", [says_nothing, says_public, says_twice])
def test_a_route_that_does_not_say_it_once_keeps_the_service_from_starting(endpoint: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="/v1/new must say once"):
        list(dependencies.declared(declaring("/v1/new", endpoint)))


def test_one_that_does_is_known_by_it() -> None:
    assert list(dependencies.declared(declaring("/v1/new", says_once))) == [
        ("/v1/new", frozenset({"GET"}), (KeyScope.ADMIN,))
    ]


def test_every_call_that_changes_something_has_a_name_in_the_audit_log(tmp_path: Path) -> None:
    document = create_app(Settings(data_dir=tmp_path)).openapi()
    changing = {
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in ("post", "put", "patch", "delete")
    }
    assert changing - {"estimate_job"} == {action.value for action in AuditAction}


def test_the_document_says_what_is_needed_and_what_is_answered_without(tmp_path: Path) -> None:
    document = create_app(Settings(data_dir=tmp_path)).openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    submit = document["paths"]["/v1/jobs"]["post"]
    assert submit["security"] == [{"key": ["jobs:write"]}]
    watch = document["paths"]["/v1/jobs"]["get"]
    assert watch["security"] == [{"key": ["jobs:read"]}, {"key": ["jobs:write"]}]
    for operation in (submit, watch):
        assert "unauthenticated" in operation["responses"]["401"]["description"]
        assert "forbidden" in operation["responses"]["403"]["description"]
        assert "host_refused" in operation["responses"]["421"]["description"]
        assert "Retry-After" in operation["responses"]["429"]["headers"]
    both = submit["responses"]["429"]["description"]
    assert "quota_exceeded" in both
    assert "rate_limited" in both
    health = document["paths"]["/healthz"]["get"]
    assert "security" not in health
    assert not {"401", "429"} & set(health["responses"])
