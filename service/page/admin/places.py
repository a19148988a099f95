"""Which of these pages a key may see: each requires the scopes of the API calls that it shows."""

from dataclasses import dataclass

from api_schemas.enums import KeyScope
from service.access.caller import Caller


@dataclass(frozen=True)
class Place:
    """A page, and the scopes of which a key needs one."""

    address: str
    name: str
    any_of: frozenset[KeyScope]


PLACES = (
    Place("/keys", "Keys", frozenset({KeyScope.ADMIN})),
    Place("/webhooks", "Webhooks", frozenset({KeyScope.JOBS_READ, KeyScope.JOBS_WRITE})),
    Place("/audit", "Audit log", frozenset({KeyScope.ADMIN})),
    Place("/limits", "Quotas and limits", frozenset(KeyScope)),
)


def places_of(caller: Caller | None) -> tuple[Place, ...]:
    """In the order of the tabs; none for nobody."""
    scopes = frozenset() if caller is None else caller.scopes
    return tuple(place for place in PLACES if not scopes.isdisjoint(place.any_of))


def name_of(caller: Caller | None) -> str:
    """What the entry that leads to them is called."""
    return "Admin" if caller is not None and KeyScope.ADMIN in caller.scopes else "Settings"
