"""Keys, and the record of who changed what: what the API takes and answers about access."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import AuditOutcome, KeyScope
from api_schemas.ids import Name


class KeyRequest(StrictModel):
    """`POST /v1/keys`."""

    name: Name | None = None
    """For people: who or what uses it."""
    scopes: tuple[KeyScope, ...] = Field(min_length=1, max_length=len(KeyScope))
    expires_at: AwareDatetime | None = None
    """Null: until it is revoked."""


class KeyResource(FrozenModel):
    """A key, without its secret."""

    id: str
    prefix: str
    """How its token begins, to recognise it by."""
    name: str | None
    scopes: tuple[KeyScope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute; null where it never was."""


class NewKey(KeyResource):
    """A key that was just made."""

    token: str
    """What to send as `Authorization: Bearer …`. It is shown this once and kept nowhere."""


class AuditEntry(FrozenModel):
    """Somebody changed something, or was kept from it."""

    id: str
    created_at: datetime
    key_id: str | None
    """Null for the operator's own commands, and where the service runs without keys."""
    action: str
    """The operation id of the call."""
    object_id: str | None
    outcome: AuditOutcome
    request_id: str | None
    """As `X-Request-ID` of the answer and in the log."""
