"""The caller: everything that a request may see or change follows from it."""

from dataclasses import dataclass, field

from api_schemas.enums import KeyScope
from store.database.tenancy import DEFAULT_TENANT

CALLER_KEY = "caller"
"""Of `request.state`: where the caller is found once the key was looked at."""


@dataclass(frozen=True)
class Caller:
    """The owner of what a request reads and makes, and what the key allows. No `key_id` on a server without keys."""

    tenant: str
    scopes: frozenset[KeyScope]
    key_id: str | None = None
    request_id: str | None = None
    session: str | None = field(default=None, repr=False)
    """Token of the browser's session, where that stands for the key."""


ANYBODY = Caller(DEFAULT_TENANT, frozenset(KeyScope))
"""The caller of a server without keys."""
