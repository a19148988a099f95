"""Short ids: the beginning or the end of an id is enough if it is unique on the service."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from api_schemas.api.resources import DatasetResource, JobResource, ModelResource
from api_schemas.api.sweeps import SweepResource
from secateur.client.blocking_client import Secateur
from secateur.errors import InvalidRequest, NotFound

MOST = 1000
"""Newest things of a kind among which a short id is looked for."""
_SHOWN = 6
_ID = re.compile(r"(?:(job|swp|mdl|dst)_)?([a-z2-7]{1,26})")
Thing = JobResource | SweepResource | ModelResource | DatasetResource
NEWEST: Mapping[str, Callable[[Secateur], Iterable[Thing]]] = {
    "job": lambda client: (job.view for job in client.jobs()),
    "swp": lambda client: client.sweeps(),
    "mdl": lambda client: client.models(),
    "dst": lambda client: client.datasets(),
}


def whole(client: Secateur, text: str, *prefixes: str) -> str:
    """The id that is meant, of a thing with one of `prefixes` (`job`, `swp`, `mdl`, `dst`). A whole id is not looked up.

    Raises InvalidRequest for what is no id and for what several begin or end with, NotFound where there is none.
    """
    match = _ID.fullmatch(text)
    if match is None or (match[1] is not None and match[1] not in prefixes):
        kinds = " or ".join(f"{prefix}_…" for prefix in prefixes)
        raise InvalidRequest(f"{text!r} is not an id: give {kinds}, or the beginning or end of one.", code="usage")
    if match[1] is not None and len(match[2]) == 26:
        return text
    found = [thing for prefix in ([match[1]] if match[1] else prefixes) for thing in _alike(client, prefix, match[2])]
    if len(found) == 1:
        return found[0].id
    if not found:
        newest = f"the newest {MOST}" if len(prefixes) == 1 else f"the newest {MOST} of each kind"
        raise NotFound(f"No id among {newest} begins or ends with {text!r}.", code="not_found")
    listed = "".join(f"\n  {each.id}  {each.state.value}  {each.name or ''}".rstrip() for each in found[:_SHOWN])
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise InvalidRequest(
        f"Several ids begin or end with {text!r}; give more characters:{listed}{more}", code="ambiguous_id"
    )


def _alike(client: Secateur, prefix: str, part: str) -> Iterable[Thing]:
    for thing in islice(NEWEST[prefix](client), MOST):
        rest = thing.id.partition("_")[2]
        if rest.startswith(part) or rest.endswith(part):
            yield thing
