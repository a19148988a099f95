"""The scopes that a key needs: every route below /v1 declares them in the type of its `services`, and nowhere else.

`def cancel_job(services: ToWriteJobs, …)`: the key needs the scope `jobs:write`. The OpenAPI document is generated from the same
declaration, and the service does not start if a route has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api_schemas.enums import AuditAction, AuditOutcome, KeyScope
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.access.caller import CALLER_KEY, Caller
from service.middleware.request_shape import has_body
from service.services import Services
from store.access import audit

PUBLIC = frozenset(
    {
        *("/healthz", "/readyz", "/docs", "/docs/assets/{path}", "/openapi.json"),
        *("/static/{version}/{name}", "/signin", "/signout"),
    }
)
"""Routes that need no key."""


@dataclass(frozen=True)
class RequiresScope:
    """The dependency that hands out `Services`. Raises FORBIDDEN where the key has none of `any_of`."""

    any_of: tuple[KeyScope, ...]

    async def __call__(self, request: Request) -> Services:
        # Not a plain function: FastAPI would send every call through a thread for it.
        shared: Services = request.app.state.services
        caller: Caller = getattr(request.state, CALLER_KEY)
        services = replace(shared, caller=caller)
        if caller.scopes.isdisjoint(self.any_of):
            await run_in_threadpool(_note_refusal, services, request)
            raise SecateurError(ErrorCode.FORBIDDEN, f"The key lacks the scope {' or '.join(self.any_of)}.")
        return services


ToWriteModels = Annotated[Services, Depends(RequiresScope((KeyScope.MODELS_WRITE,)))]
"""Uploads, of models and of datasets."""
ToWriteJobs = Annotated[Services, Depends(RequiresScope((KeyScope.JOBS_WRITE,)))]
ToReadJobs = Annotated[Services, Depends(RequiresScope((KeyScope.JOBS_READ, KeyScope.JOBS_WRITE)))]
"""Who submits a job may watch it."""
ToReadUploads = Annotated[
    Services, Depends(RequiresScope((KeyScope.MODELS_WRITE, KeyScope.JOBS_WRITE, KeyScope.JOBS_READ)))
]
ToAdminister = Annotated[Services, Depends(RequiresScope((KeyScope.ADMIN,)))]
ToLookAround = Annotated[Services, Depends(RequiresScope(tuple(KeyScope)))]
"""Any valid key."""


async def _public_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Public = Annotated[Services, Depends(_public_services)]
"""For the routes in PUBLIC, which have no caller."""


async def well_formed(request: Request) -> None:
    """Of every route: what it does not know in the address is refused, and not passed over as if it had been obeyed.

    Raises INVALID_REQUEST, and MEDIA_TYPE_REFUSED for a compressed body.
    """
    refuse_compression(request)
    if not request.query_params:
        return
    names = frozenset(_query_names(request.scope["route"].dependant))
    unknown = sorted(set(request.query_params) - names)
    if unknown:
        known = ", ".join(sorted(names)) or "none"
        items = tuple(
            ErrorItem.at("query", name, code=ErrorCode.INVALID_REQUEST, detail="there is no such parameter")
            for name in unknown
        )
        detail = f"This call has no parameter {unknown[0][:100]!r}; it has: {known}."
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, items)


def refuse_compression(request: Request) -> None:
    """Compressed bodies are refused, because their unpacked size is unknown. Raises MEDIA_TYPE_REFUSED."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity") and has_body(request.headers):
        detail = (
            f"This body has Content-Encoding {coding[:100]}, but encoded bodies are not accepted. Send it unencoded."
        )
        raise SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, detail)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        yield from kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else (field.alias,)
    for inner in dependant.dependencies:
        yield from _query_names(inner)


def declared(app: FastAPI) -> Iterator[tuple[str, frozenset[str], tuple[KeyScope, ...]]]:
    """Path, methods and the scopes of which one is needed, of every route that is not in PUBLIC."""
    for context in iter_route_contexts(app.routes):
        path = context.path_format
        if path is None or path in PUBLIC:
            continue
        route = context.original_route
        needed = [
            dependency.call.any_of
            for dependency in (route.dependant.dependencies if isinstance(route, APIRoute) else ())
            if isinstance(dependency.call, RequiresScope)
        ]
        if len(needed) != 1:
            raise RuntimeError(
                f"{path} must say once what a key needs to call it: give its `services` a type of service/dependencies.py."
            )
        yield path, frozenset(context.methods or ()), needed[0]


def _note_refusal(services: Services, request: Request) -> None:
    """Only of calls that would have changed something."""
    operation = getattr(request.scope.get("route"), "operation_id", None)
    if operation in set(AuditAction):
        with services.database.write() as session:
            audit.record(
                session,
                services.tenant,
                AuditAction(operation),
                None,
                key_id=services.caller.key_id,
                request_id=services.caller.request_id,
                outcome=AuditOutcome.FORBIDDEN,
            )
