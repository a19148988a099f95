"""Keys: create, list, revoke."""

from fastapi import APIRouter, Response

from api_schemas.api.access import KeyRequest, KeyResource, NewKey
from api_schemas.api.resources import Page
from api_schemas.errors import ErrorCode
from service.core import api_keys
from service.dependencies import ToAdminister
from service.openapi.document import LOCATION, problems
from service.paths import V1
from service.routes.json_bodies import JsonRoute
from service.routes.parameters import Cursor, KeyPath, Limit

router = APIRouter(prefix="/keys", tags=["access"], route_class=JsonRoute)


@router.post(
    "",
    operation_id="create_key",
    summary="Create a key",
    status_code=201,
    response_description="The key with its token, which is not shown again.",
    responses={201: {"headers": LOCATION}, **problems(ErrorCode.REQUEST_TOO_LARGE)},
)
def create_key(services: ToAdminister, request: KeyRequest, response: Response) -> NewKey:
    """Creates a key for the caller's tenant. The token is returned only in this response: store it."""
    key = api_keys.create(services, request)
    response.headers["Location"] = f"{V1}/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return key


@router.get("", operation_id="list_keys", summary="List keys", responses=problems())
def list_keys(services: ToAdminister, cursor: Cursor = None, limit: Limit = 20) -> Page[KeyResource]:
    """Newest first, including revoked and expired keys; without tokens."""
    return api_keys.page(services, cursor, limit)


@router.get("/{key_id}", operation_id="get_key", summary="Get a key", responses=problems(ErrorCode.NOT_FOUND))
def get_key(services: ToAdminister, key_id: KeyPath) -> KeyResource:
    """Returns its scopes, when it was created and last used, and whether it is still valid."""
    return api_keys.get(services, key_id)


@router.post(
    "/{key_id}/revoke", operation_id="revoke_key", summary="Revoke a key", responses=problems(ErrorCode.NOT_FOUND)
)
def revoke_key(services: ToAdminister, key_id: KeyPath) -> KeyResource:
    """Takes effect at once and permanently, even for the calling key. Repeating it changes nothing."""
    return api_keys.revoke(services, key_id)
