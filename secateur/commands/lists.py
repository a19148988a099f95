"""`secateur jobs`, `models` and `datasets`: lists, newest first."""

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, TypeVar

import typer

from api_schemas.enums import JobState
from secateur.commands.shared import arguments
from secateur.commands.shared.group import JOBS, UPLOADS
from secateur.commands.shared.session import Session, served
from secateur.terminal.listings import datasets_table, jobs_table, models_table

T = TypeVar("T")
_LIMIT = 20


def register(app: typer.Typer) -> None:
    """The three."""
    served(app, JOBS)(jobs)
    served(app, UPLOADS)(models)
    served(app, UPLOADS)(datasets)


def jobs(
    session: Session,
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only jobs in this state; may be repeated.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY[=VALUE]", help="Only jobs with this label; may be repeated.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs on this model: mdl_….", show_default=False)] = None,
    limit: arguments.Limit = _LIMIT,
) -> None:
    """List jobs, newest first."""
    model = None if model is None else session.whole_id(model, "mdl")
    states = [each.value for each in state or ()]
    found = (job.view for job in session.client.jobs(state=states, labels=label, model=model))
    views = _newest(session, found, limit)
    session.give(views, jobs_table(views, session.out.width) if views else "No jobs found.")


def models(session: Session, limit: arguments.Limit = _LIMIT) -> None:
    """List models, newest first."""
    found = _newest(session, session.client.models(), limit)
    session.give(
        found,
        models_table(found, session.out.width)
        if found
        else "There are no models. Upload one: secateur upload model FOLDER",
    )


def datasets(session: Session, limit: arguments.Limit = _LIMIT) -> None:
    """List datasets, newest first."""
    found = _newest(session, session.client.datasets(), limit)
    session.give(
        found,
        datasets_table(found, session.out.width)
        if found
        else "There are no datasets. Upload one: secateur upload dataset FOLDER",
    )


def _newest(session: Session, source: Iterable[T], limit: int) -> list[T]:
    found = list(islice(source, limit + 1))
    if len(found) > limit:
        session.note(f"Showing the newest {limit}; use --limit for more.")
    return found[:limit]
