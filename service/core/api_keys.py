"""API keys of a tenant: created, listed and revoked by its administrators."""

from api_schemas.api.access import KeyRequest, KeyResource, NewKey
from api_schemas.api.resources import Page
from api_schemas.enums import AuditAction
from service.core import resources
from service.services import Services
from store.access import api_keys


def create(services: Services, request: KeyRequest) -> NewKey:
    """Raises INVALID_REQUEST where it would have expired already."""
    with services.database.write() as session:
        row, token = api_keys.create(session, services.tenant, request.name, request.scopes, request.expires_at)
        services.note(session, AuditAction.CREATE_KEY, row.id)
    return NewKey(**resources.key(row).model_dump(), token=token)


def get(services: Services, key_id: str) -> KeyResource:
    """Raises NOT_FOUND."""
    with services.database.read() as session:
        return resources.key(api_keys.get(session, services.tenant, key_id))


def page(services: Services, cursor: str | None, limit: int) -> Page[KeyResource]:
    """Newest first."""
    with services.database.read() as session:
        rows = api_keys.page(session, services.tenant, cursor, limit)
    return resources.page(rows, [resources.key(row) for row in rows.items])


def revoke(services: Services, key_id: str) -> KeyResource:
    """Raises NOT_FOUND. One that was revoked before stays so."""
    with services.database.write() as session:
        if api_keys.revoke(session, services.tenant, key_id):
            services.note(session, AuditAction.REVOKE_KEY, key_id)
        return resources.key(api_keys.get(session, services.tenant, key_id))
