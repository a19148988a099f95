"""`secateur logs` and `secateur events`: line by line, also while the job runs."""

from typing import Annotated

import typer

from secateur.commands.shared import arguments
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.session import Session, served
from secateur.documents import LogLine
from secateur.terminal.event_lines import event_line

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the job has ended.")]


def register(app: typer.Typer) -> None:
    """Both."""
    served(app, JOBS, patient=True)(logs)
    served(app, JOBS, patient=True)(events)


def logs(
    session: Session,
    identifier: arguments.Job,
    follow: Follow = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Attempt to print. Default: the newest.", show_default=False)
    ] = None,
) -> None:
    """Print the engine's log. With --json, one object per line."""
    for line in session.client.job(session.whole_id(identifier, "job")).logs(follow, attempt):
        session.give_line(LogLine(line=line), line)


def events(
    session: Session,
    identifier: arguments.Job,
    follow: Follow = False,
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher number.")] = 0,
) -> None:
    """Print the job's events. With --json, one event per line, as the API returns it."""
    for event in session.client.job(session.whole_id(identifier, "job")).events(after, follow):
        session.give_line(event, event_line(event))
