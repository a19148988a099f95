"""`secateur logs` and `secateur events`: line by line, also while the job runs."""

from typing import Annotated

import typer

from secateur.commands.shared import arguments
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.session import Session, served
from secateur.terminal.event_lines import event_line

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Until the job has ended.")]


def register(app: typer.Typer) -> None:
    """Both."""
    served(app, JOBS, patient=True)(logs)
    served(app, JOBS, patient=True)(events)


def logs(
    session: Session,
    identifier: arguments.Job,
    follow: Follow = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which. Default: the newest.", show_default=False)] = None,
) -> None:
    """Print what the engine wrote. With --json an object a line."""
    for line in session.client.job(session.whole_id(identifier, "job")).logs(follow, attempt):
        session.give_line({"line": line}, line)


def events(
    session: Session,
    identifier: arguments.Job,
    follow: Follow = False,
    after: Annotated[int, typer.Option(min=0, help="Only events numbered above.")] = 0,
) -> None:
    """Print what happened. With --json an event a line, as the API has it."""
    for event in session.client.job(session.whole_id(identifier, "job")).events(after, follow):
        session.give_line(event, event_line(event))
