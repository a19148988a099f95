"""Whether tenants took turns, from when their jobs were made and claimed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A job: whose, and in seconds when it was submitted and when first claimed."""

    tenant: str
    made: float
    claimed: float


def shares(claims: Sequence[Claim]) -> dict[str, Any]:
    """Of the claims that were made while every tenant had a job waiting: how many there were, each tenant's share, and the most
    claims between two of a tenant (`gap`); ideal are equal shares, and a gap of one less than there are tenants.

    Nothing but a count of 0 where all never waited at once.
    """
    tenants = sorted({claim.tenant for claim in claims})
    ordered = sorted(claims, key=lambda claim: claim.claimed)
    contested = [claim for claim in ordered if all(_waits(claims, tenant, claim) for tenant in tenants)]
    if not contested:
        return {"claims": 0, "tenants": len(tenants)}
    counted = Counter(claim.tenant for claim in contested)
    gaps = []
    for tenant in tenants:
        places = [-1, *(place for place, claim in enumerate(contested) if claim.tenant == tenant), len(contested)]
        gaps += [later - earlier - 1 for earlier, later in pairwise(places)]
    return {
        "claims": len(contested),
        "tenants": len(tenants),
        "shares": {tenant: counted[tenant] / len(contested) for tenant in tenants},
        "gap": max(gaps),
    }


def _waits(claims: Sequence[Claim], tenant: str, at: Claim) -> bool:
    """Whether a job of the tenant could be claimed in that moment: one that was, counts."""
    return any(each.tenant == tenant and each.made <= at.claimed <= each.claimed for each in claims)
