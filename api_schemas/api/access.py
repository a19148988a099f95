"""Keys, and the record of who changed what: what the API takes and answers about access."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import AuditOutcome, KeyScope
from api_schemas.ids import Name


class KeyRequest(StrictModel):
    """`POST /v1/keys`."""

    name: Name | None = None
    """A label for people: who or what uses the key."""
    scopes: tuple[KeyScope, ...] = Field(min_length=1, max_length=len(KeyScope))
    expires_at: AwareDatetime | None = None
    """Null if the key is valid until it is revoked."""


class KeyResource(FrozenModel):
    """A key, without its secret."""

    id: str
    prefix: str
    """Start of the token, to identify the key."""
    name: str | None
    scopes: tuple[KeyScope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute; null if never used."""


class NewKey(KeyResource):
    """A new key."""

    token: str
    """The token to send as `Authorization: Bearer …`. It is returned only here and is not stored."""


class AuditEntry(FrozenModel):
    """One change, or an attempt that was denied."""

    id: str
    created_at: datetime
    key_id: str | None
    """Null for commands of the operator, and if the service runs without keys."""
    action: str
    """The operation id of the call."""
    object_id: str | None
    outcome: AuditOutcome
    request_id: str | None
    """As in the `X-Request-ID` header of the response and in the log."""
