"""Shell completion of identifiers from the service: quick or not at all, and silent if no service responds."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import typer

from secateur.client.blocking_client import Secateur
from secateur.commands.shared.short_ids import NEWEST, Thing
from secateur.profiles import signed_in

_MOST = 50
_SECONDS = 1.5
Candidates = Iterator[tuple[str, str]]


def jobs(context: typer.Context, incomplete: str) -> Candidates:
    """The newest jobs, with state and name."""
    return _found(context, incomplete, NEWEST["job"])


def uploads_and_jobs(context: typer.Context, incomplete: str) -> Candidates:
    """Whatever has an identifier that begins so."""
    for prefix, newest in NEWEST.items():
        if f"{prefix}_".startswith(incomplete[:4]):
            yield from _found(context, incomplete, newest)


def jobs_and_sweeps(context: typer.Context, incomplete: str) -> Candidates:
    """The newest of both."""
    return chain(jobs(context, incomplete), _found(context, incomplete, lambda client: client.sweeps()))


def models(context: typer.Context, incomplete: str) -> Candidates:
    """The newest models; the shell itself offers no folders then."""
    return _found(context, incomplete, lambda client: client.models())


def datasets(context: typer.Context, incomplete: str) -> Candidates:
    """The newest datasets."""
    return _found(context, incomplete, lambda client: client.datasets())


def _found(context: typer.Context, incomplete: str, newest: Callable[[Secateur], Iterable[Thing]]) -> Candidates:
    given = context.params
    # Whatever goes wrong, a shell that asks for words must get no error in their place.
    try:
        url, key = signed_in(given.get("url"), given.get("api_key"), given.get("profile"))
        with Secateur(url, key, timeout=_SECONDS, max_retries=0) as client:
            known = [
                (thing.id, f"{thing.state.value} {thing.name or ''}".strip()) for thing in islice(newest(client), _MOST)
            ]
    except Exception:
        return
    yield from (each for each in known if each[0].startswith(incomplete))
