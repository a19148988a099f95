"""Who calls: everything a request may see or change follows from this."""

from dataclasses import dataclass

from store.tenancy import DEFAULT_TENANT


@dataclass(frozen=True)
class Caller:
    """The owner of what a request reads and makes."""

    tenant: str


ANYBODY = Caller(DEFAULT_TENANT)
"""Whoever reaches a server without keys."""
